"""Given panels: images that are kept while the rest of the set is sampled.

A given image is fitted to its panel's box once (EXIF-rotated, center-cropped to the box's aspect
ratio, resized) and pasted over the model's output, so it is returned pixel for pixel. The model
reads its VAE encoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from iclora.errors import BadInput
from schemas.layout import Layout

GivenPanels = Mapping[int, Image.Image]
"""Mapping from panel index (from 0) to its image, fitted to its box."""


def panel_index(layout: Layout, name: str) -> int:
    """Returns the index (from 0) of a panel named by number (from 1) or by marker.

    Brackets are optional: ``SCENE-2`` is ``[SCENE-2]``.

    Raises:
        BadInput: the layout has no such panel.
    """
    markers = [marker.strip("[]").lower() for marker in layout.markers]
    bare = name.strip("[]").lower()
    if bare in markers:
        return markers.index(bare)
    if name.isdecimal() and 1 <= int(name) <= layout.panels:
        return int(name) - 1
    raise BadInput(
        f"there is no panel {name!r}: a {layout.name} set has 1 to {layout.panels}, "
        f"or {', '.join(layout.markers)}"
    )


def fit_panel(picture: Image.Image, layout: Layout) -> Image.Image:
    """Fits an image to a panel: EXIF-rotated, center-cropped, resized; RGB.

    An image that already has the panel's size keeps its pixels.
    """
    upright = ImageOps.exif_transpose(picture).convert("RGB")
    size = (layout.panel_width, layout.panel_height)
    return (
        upright if upright.size == size else ImageOps.fit(upright, size, Image.Resampling.LANCZOS)
    )


def open_panels(files: Mapping[str, Path], layout: Layout, max_pixels: int) -> GivenPanels:
    """Opens and fits the user's images.

    Args:
        files: panel (number from 1, or marker) to image file.
        layout: layout of the set.
        max_pixels: limit in pixels, checked before decoding.

    Raises:
        BadInput: no such panel, not an image, too large, given twice, or no panel left to sample.
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
    """Computes the sha256 of an image's RGB bytes."""
    return hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()


def paste(canvas: Image.Image, panels: GivenPanels, layout: Layout) -> Image.Image:
    """Pastes the given panels over their boxes on a canvas."""
    complete = canvas.copy()
    for index, picture in panels.items():
        complete.paste(picture, layout.boxes[index][:2])
    return complete


def split_canvas(canvas: Image.Image, layout: Layout) -> list[Image.Image]:
    """Splits a canvas into its panels."""
    return [canvas.crop(box) for box in layout.boxes]
