from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given as cases
from hypothesis import strategies as st
from PIL import Image

from iclora.errors import BadInput
from iclora.sampling.given_panels import fit_panel, open_panels, panel_index, paste, split_canvas
from schemas.layout import Layout

LAYOUT = Layout(panel_width=64, panel_height=32)


def noise(width, height, seed=0):
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(array)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "panel.png"
    noise(80, 50).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "index"),
    [("1", 0), ("3", 2), ("[SCENE-2]", 1), ("SCENE-2", 1), ("scene-3", 2)],
)
def test_a_panel_is_named_by_number_or_marker(name, index):
    assert panel_index(LAYOUT, name) == index


@pytest.mark.parametrize("name", ["0", "4", "-1", "", "SCENE-4", "1.0", "²"])
def test_a_panel_that_is_not_there_is_refused(name):
    with pytest.raises(BadInput, match="1 to 3"):
        panel_index(LAYOUT, name)


def test_a_picture_of_the_right_size_keeps_its_pixels():
    picture = noise(64, 32)
    assert fit_panel(picture, LAYOUT).tobytes() == picture.tobytes()


@cases(st.integers(1, 200), st.integers(1, 200))
def test_any_picture_fits_its_box(width, height):
    assert fit_panel(Image.new("L", (width, height)), LAYOUT).size == (64, 32)


def test_fitting_crops_around_the_centre():
    wide = Image.new("RGB", (256, 32), (0, 0, 255))
    wide.paste((255, 0, 0), (96, 0, 160, 32))
    assert fit_panel(wide, LAYOUT).getpixel((32, 16)) == (255, 0, 0)
    assert fit_panel(wide, LAYOUT).getpixel((2, 16)) == (255, 0, 0)


def test_a_turned_photograph_is_set_upright(tmp_path):
    picture = Image.new("RGB", (32, 64), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 32, 32))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned clockwise
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif)
    (tmp_path / "p.png").write_bytes(buffer.getvalue())
    (panel,) = open_panels({"1": tmp_path / "p.png"}, LAYOUT, 10_000).values()
    assert panel.getpixel((60, 16)) == (255, 255, 255)
    assert panel.getpixel((4, 16)) == (0, 0, 0)


@cases(st.sets(st.integers(0, 2), min_size=1))
def test_pasting_then_splitting_gives_the_given_panels_back(indices):
    given = {index: noise(64, 32, index) for index in indices}
    canvas = noise(64, 96, 99)
    panels = split_canvas(paste(canvas, given, LAYOUT), LAYOUT)
    for index, (before, after) in enumerate(zip(split_canvas(canvas, LAYOUT), panels, strict=True)):
        assert after.tobytes() == given.get(index, before).tobytes()


def test_panels_are_opened_in_the_layouts_order(file):
    assert list(open_panels({"SCENE-3": file, "1": file}, LAYOUT, 10_000)) == [0, 2]


def test_a_panel_given_twice_is_refused(file):
    with pytest.raises(BadInput, match="panel 1 is given twice"):
        open_panels({"1": file, "[SCENE-1]": file}, LAYOUT, 10_000)


def test_something_must_be_left_to_draw(file):
    with pytest.raises(BadInput, match="leave at least one to draw"):
        open_panels(dict.fromkeys("123", file), LAYOUT, 10_000)


@pytest.mark.parametrize(("limit", "refused"), [(4000, False), (3999, True)])
def test_a_large_picture_is_refused_before_it_is_decoded(file, limit, refused):
    if refused:
        with pytest.raises(BadInput, match="at most 3999"):
            open_panels({"1": file}, LAYOUT, limit)
    else:
        assert open_panels({"1": file}, LAYOUT, limit)[0].size == (64, 32)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_picture_is_refused(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.png"):
        open_panels({"1": path}, LAYOUT, 10_000)


def test_a_missing_picture_and_a_cut_one_are_refused(tmp_path, file):
    with pytest.raises(BadInput, match="is not a picture file"):
        open_panels({"1": tmp_path / "none.png"}, LAYOUT, 10_000)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(BadInput, match="cannot be read as a picture"):
        open_panels({"1": file}, LAYOUT, 10_000)
