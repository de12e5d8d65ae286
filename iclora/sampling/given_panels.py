"""Given panels: pictures that are kept while the rest of the set is drawn.

A given picture is fitted to its panel's box once (upright, cropped to the box's shape around the
centre, resized) and that is what comes back, to the pixel: whatever the model made of the region
is pasted over. What the model sees of it is its VAE encoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from iclora.errors import BadInput
from schemas.layout import Layout

GivenPanels = Mapping[int, Image.Image]
"""Index of the panel (from 0) to its picture, fitted to its box."""


def panel_index(layout: Layout, name: str) -> int:
    """The index (from 0) of a panel that is named by number (from 1) or by marker.

    Brackets may be left out: ``SCENE-2`` is ``[SCENE-2]``.

    Raises:
        BadInput: the layout has no such panel.
    """
    bare = [marker.strip("[]").lower() for marker in layout.markers]
    if name.strip("[]").lower() in bare:
        return bare.index(name.strip("[]").lower())
    if name.isdecimal() and 1 <= int(name) <= layout.panels:
        return int(name) - 1
    raise BadInput(
        f"there is no panel {name!r}: a {layout.name} set has 1 to {layout.panels}, "
        f"or {', '.join(layout.markers)}"
    )


def fit_panel(picture: Image.Image, layout: Layout) -> Image.Image:
    """A picture as it fills a panel: upright, cropped around the centre, resized; RGB.

    A picture that already has the panel's size comes back with the same pixels.
    """
    upright = ImageOps.exif_transpose(picture).convert("RGB")
    size = (layout.panel_width, layout.panel_height)
    return (
        upright if upright.size == size else ImageOps.fit(upright, size, Image.Resampling.LANCZOS)
    )


def open_panels(files: Mapping[str, Path], layout: Layout, max_pixels: int) -> GivenPanels:
    """Opens and fits the pictures that a user gives.

    Args:
        files: panel (number from 1, or marker) to picture file.
        layout: the set's.
        max_pixels: larger pictures are refused before they are decoded.

    Raises:
        BadInput: no such panel, not a picture, too large, given twice, or nothing left to draw.
    """
    panels: dict[int, Image.Image] = {}
    for name, file in files.items():
        index = panel_index(layout, name)
        if index in panels:
            raise BadInput(f"panel {index + 1} is given twice")
        panels[index] = fit_panel(_open(file, max_pixels), layout)
    if len(panels) == layout.panels:
        raise BadInput(f"all {layout.panels} panels are given: leave at least one to draw")
    return dict(sorted(panels.items()))


def _open(file: Path, max_pixels: int) -> Image.Image:
    try:
        with Image.open(file) as picture:
            if picture.width * picture.height > max_pixels:
                raise BadInput(
                    f"{file} has {picture.width}x{picture.height} pixels; at most {max_pixels} "
                    f"are decoded (ingest.max_pixels)"
                )
            picture.load()
            return picture
    except (FileNotFoundError, IsADirectoryError) as error:
        raise BadInput(f"{file} is not a picture file") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # Pillow's, by format
        raise BadInput(f"{file} cannot be read as a picture: {error}") from error


def pixels_digest(picture: Image.Image) -> str:
    """The sha256 of a picture's RGB bytes."""
    return hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()


def paste(canvas: Image.Image, panels: GivenPanels, layout: Layout) -> Image.Image:
    """A canvas with the given panels over whatever was drawn in their boxes."""
    whole = canvas.copy()
    for index, picture in panels.items():
        whole.paste(picture, layout.boxes[index][:2])
    return whole


def split_canvas(canvas: Image.Image, layout: Layout) -> list[Image.Image]:
    """The panels of a canvas."""
    return [canvas.crop(box) for box in layout.boxes]
