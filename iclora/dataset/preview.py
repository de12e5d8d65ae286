"""``preview.jpg``: contact sheet of a dataset."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from iclora.store import atomic_write

CELLS = 12
"""Maximum number of samples shown, spread evenly over the dataset."""

_COLUMNS = 6
_CELL_WIDTH, _CELL_HEIGHT, _LABEL, _GAP = 240, 320, 14, 8
_LABEL_WIDTH = 100
_PAPER, _INK = (250, 250, 250), (40, 40, 40)
_QUALITY = 88


def pick(count: int, cells: int = CELLS) -> tuple[int, ...]:
    """Selects up to ``cells`` of ``count`` samples, evenly spread, in order."""
    shown = min(count, cells)
    return tuple(number * count // shown for number in range(shown))


def thumbnail(
    image: bytes,
    size: tuple[int, int],
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """Shrinks a canvas to fit a size (width, height) in pixels, in RGB."""
    with Image.open(io.BytesIO(image)) as canvas:
        canvas.draft("RGB", size)
        small = canvas.convert("RGB")
    small.thumbnail(size, resampling)
    return small


def preview_sheet(cells: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Arranges one thumbnail or more in rows of six with labels below, in Pillow's bitmap font."""
    cell_width = max(_LABEL_WIDTH, *(picture.width for _, picture in cells))
    cell_height = max(picture.height for _, picture in cells)
    columns = min(_COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    size = (columns * (cell_width + _GAP), rows * (cell_height + _LABEL + _GAP))
    sheet = Image.new("RGB", (size[0] + _GAP, size[1] + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default_imagefont()
    for number, (label, picture) in enumerate(cells):
        x = _GAP + number % columns * (cell_width + _GAP)
        y = _GAP + number // columns * (cell_height + _LABEL + _GAP)
        sheet.paste(picture, (x + (cell_width - picture.width) // 2, y))
        draw.text((x, y + cell_height), label[: cell_width // 6], fill=_INK, font=font)
    return sheet


def write_preview(samples: Iterable[tuple[str, bytes]], path: Path) -> None:
    """Writes the contact sheet of the given samples (label, canvas file)."""
    size = (_CELL_WIDTH, _CELL_HEIGHT)
    cells = [(label, thumbnail(image, size, Image.Resampling.BOX)) for label, image in samples]
    sheet = preview_sheet(cells)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    atomic_write(path, buffer.getvalue())
