"""A dataset in one picture."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from iclora.dataset.preview import pick, preview_sheet, write_preview


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, ()), (3, (0, 1, 2)), (12, tuple(range(12))), (24, tuple(range(0, 24, 2)))],
)
def test_which_samples_are_shown(count: int, shown: tuple[int, ...]):
    assert pick(count) == shown


def test_every_picture_is_on_the_sheet():
    colours = [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (9, 9, 9),
        (90, 0, 90),
        (0, 90, 90),
        (1, 2, 3),
    ]
    cells = [(f"key{n}", Image.new("RGB", (60, 80), colour)) for n, colour in enumerate(colours)]
    sheet = preview_sheet(cells)
    found = {colour for _, colour in sheet.getcolors(1 << 20)}
    assert set(colours) <= found
    assert sheet.size == (6 * 108 + 8, 2 * (80 + 14 + 8) + 8)


def test_the_same_samples_give_the_same_bytes(tmp_path: Path):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((300, 900)).save(buffer, "PNG")
    samples = [("a", buffer.getvalue()), ("b", buffer.getvalue())]
    for name in ("one.jpg", "two.jpg"):
        write_preview(samples, tmp_path / name)
    assert (tmp_path / "one.jpg").read_bytes() == (tmp_path / "two.jpg").read_bytes()
    with Image.open(tmp_path / "one.jpg") as sheet:
        assert sheet.height == 320 + 14 + 16
