from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from iclora.errors import BadInput
from iclora.sampling.caption_input import read_captions
from iclora.sampling.contact_sheet import GAP, contact_sheet

RED, BLUE = (200, 0, 0), (0, 0, 200)


def area(sheet, colour):
    return int((np.asarray(sheet) == colour).all(axis=2).sum())


def test_every_picture_is_on_the_sheet_with_its_size():
    rows = [[Image.new("RGB", (40, 60), RED)], [Image.new("RGB", (30, 20), BLUE)] * 2]
    sheet = contact_sheet(rows, ["one", "two"], side=64)
    assert area(sheet, RED) == 40 * 60
    assert area(sheet, BLUE) == 2 * 30 * 20


def test_large_pictures_are_shrunk_and_small_ones_are_not_enlarged():
    sheet = contact_sheet([[Image.new("RGB", (400, 800), RED)]], ["one"], side=100)
    assert area(sheet, RED) == 50 * 100


def test_long_labels_are_wrapped_and_cut():
    picture = [Image.new("RGB", (200, 20), RED)]
    short, long = contact_sheet([picture], ["a"]), contact_sheet([picture], ["word " * 40])
    endless = contact_sheet([picture], ["word " * 4000])
    assert short.height < long.height <= endless.height < long.height + 40
    assert short.width == long.width == endless.width


def test_pictures_do_not_overlap_and_heads_name_the_columns():
    rows = [[Image.new("RGB", (50, 50), RED), Image.new("RGB", (50, 50), BLUE)]]
    plain, headed = contact_sheet(rows, ["x"]), contact_sheet(rows, ["x"], heads=["a", "b"])
    assert area(headed, RED) == area(headed, BLUE) == 2500
    assert headed.height > plain.height
    columns = np.where((np.asarray(plain) == BLUE).all(axis=2).any(axis=0))[0]
    assert columns[0] == GAP + 50 + GAP


def test_heads_that_are_wider_than_their_columns_have_a_line_each():
    rows = [[Image.new("RGB", (50, 50), colour) for colour in (RED, BLUE)]]
    fit = contact_sheet(rows, ["x"], heads=["adapter", "base"])
    wide = contact_sheet(rows, ["x"], heads=["adapters", "base"])
    assert fit.height == contact_sheet(rows, ["x"], heads=["a", "b"]).height
    assert wide.height > fit.height
    assert area(wide, RED) == area(wide, BLUE) == 2500


def test_a_row_without_pictures_and_a_sheet_without_rows():
    assert contact_sheet([[]], ["nothing"]).width > 0
    assert contact_sheet([], []).height > 0


def test_the_same_pictures_give_the_same_sheet():
    rows = [[Image.new("RGB", (50, 50), RED)]]
    one, other = contact_sheet(rows, ["éa 夏"]), contact_sheet(rows, ["éa 夏"])
    assert one.tobytes() == other.tobytes()


def test_captions_of_a_file_are_its_lines(tmp_path):
    file = tmp_path / "captions.txt"
    file.write_bytes("\ufeff# ours\none\r\n\n  two 夏 \n".encode())
    assert read_captions(file) == ("one", "two 夏")


@pytest.mark.parametrize("content", [b"", b"# only this\n", b"\xff\xfe\x00"])
def test_a_file_without_captions_is_refused(tmp_path, content):
    file = tmp_path / "captions.txt"
    file.write_bytes(content)
    with pytest.raises(BadInput, match=r"captions\.txt"):
        read_captions(file)
    with pytest.raises(BadInput, match="cannot be read"):
        read_captions(tmp_path / "none.txt")
