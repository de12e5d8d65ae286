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
    widths = [GAP + sum(picture.width + GAP for picture in row) for row in small]
    width = max([*widths, side]) + GAP
    characters = max(8, (width - 2 * GAP) // _CHAR_WIDTH)
    wrapped = [
        textwrap.wrap(label, characters, max_lines=_MAX_LINES, placeholder=" …") for label in labels
    ]
    column_width = max((picture.width for row in small for picture in row), default=side)
    step = _LINE if any(len(word) * _CHAR_WIDTH > column_width for word in heads) else 0
    head = _LINE + step * (len(heads) - 1) if heads else 0
    heights = [
        len(lines) * _LINE + max((picture.height for picture in row), default=0) + 2 * GAP
        for row, lines in zip(small, wrapped, strict=True)
    ]
    sheet = Image.new("RGB", (width, sum(heights) + head + GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_FONT_SIZE)
    for column, word in enumerate(heads):
        corner = (GAP + column * (column_width + GAP), GAP // 2 + column * step)
        draw.text(corner, word, fill=_INK, font=font)
    top = head + GAP
    for row, lines, height in zip(small, wrapped, heights, strict=True):
        for number, line in enumerate(lines):
            draw.text((GAP, top + number * _LINE), line, fill=_FAINT, font=font)
        x, y = GAP, top + len(lines) * _LINE + GAP // 2
        for picture in row:
            sheet.paste(picture, (x, y))
            x += picture.width + GAP
        top += height
    return sheet


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small
