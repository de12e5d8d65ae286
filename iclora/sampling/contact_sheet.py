"""Contact sheets: rows of labeled images in one image.

Labels use Pillow's built-in font, so a sheet is the same on every machine with this Pillow.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

GAP = 12
_LINE = 16
_FONT_SIZE = 13
_CHAR_WIDTH = 7
"""Average character width of the font in pixels, for wrapping labels."""

_MAX_LINES = 4
_PAPER, _INK, _FAINT = (250, 250, 248), (32, 32, 32), (110, 110, 110)


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]],
    labels: Sequence[str],
    *,
    heads: Sequence[str] = (),
    side: int = 320,
) -> Image.Image:
    """Composes a contact sheet.

    Args:
        rows: images, row by row; rows may have different lengths. Images with a longer side above
            ``side`` are shrunk to it.
        labels: one text per row, set above it; wrapped, and cut after four lines.
        heads: one word per column, set above the first row; one line each if they are too wide.
        side: longer side of an image on the sheet, in pixels.

    Returns:
        The sheet, RGB.
    """
    assert len(rows) == len(labels), "a label for every row"
    small = [[_shrunk(picture, side) for picture in row] for row in rows]
    width = max([_row_width(row) for row in small] + [side]) + GAP
    wrapped = [_wrap(label, width - 2 * GAP) for label in labels]
    column_width = max((picture.width for row in small for picture in row), default=side)
    step = _LINE if any(len(word) * _CHAR_WIDTH > column_width for word in heads) else 0
    head = _LINE + step * (len(heads) - 1) if heads else 0
    heights = [
        len(lines) * _LINE + max((picture.height for picture in row), default=0) + 2 * GAP
        for row, lines in zip(small, wrapped, strict=True)
    ]
    sheet = Image.new("RGB", (width, sum(heights) + head + GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, word in enumerate(heads):
        place = (GAP + column * (column_width + GAP), GAP // 2 + column * step)
        draw.text(place, word, fill=_INK, font=_font())
    y = head + GAP
    for row, lines, height in zip(small, wrapped, heights, strict=True):
        _draw_row(sheet, draw, row, lines, y)
        y += height
    return sheet


def _draw_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    row: Sequence[Image.Image],
    lines: Sequence[str],
    y: int,
) -> None:
    for line in lines:
        draw.text((GAP, y), line, fill=_FAINT, font=_font())
        y += _LINE
    x = GAP
    for picture in row:
        sheet.paste(picture, (x, y + GAP // 2))
        x += picture.width + GAP


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _row_width(row: Sequence[Image.Image]) -> int:
    return GAP + sum(picture.width + GAP for picture in row)


def _wrap(label: str, width: int) -> list[str]:
    characters = max(8, width // _CHAR_WIDTH)
    return textwrap.wrap(label, characters, max_lines=_MAX_LINES, placeholder=" …")


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=_FONT_SIZE)
