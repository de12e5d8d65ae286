"""Canvases: stitching of panels, boxes on the canvas, and deterministic encoding."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.base import Box
from schemas.layout import Layout
from schemas.stitch import StitchParams

Pixels = NDArray[np.uint8]
"""RGB array of shape [height, width, 3]."""


def stitch(panels: Sequence[Pixels], layout: Layout) -> Pixels:
    """Assembles panels into a canvas; ``Layout.boxes`` are their exact places.

    Args:
        panels: Panels in reading order, each of the layout's panel size.
        layout: Rows, columns and panel size.

    Raises:
        ValueError: The number of panels or the size of a panel does not match the layout.
    """
    expected = (layout.panel_height, layout.panel_width, 3)
    if [panel.shape for panel in panels] != [expected] * layout.panels:
        raise ValueError(
            f"{layout.name} takes {layout.panels} panels of {expected}, "
            f"not {[panel.shape for panel in panels]}"
        )
    canvas = np.empty((layout.height, layout.width, 3), np.uint8)
    for panel, (x0, y0, x1, y1) in zip(panels, layout.boxes, strict=True):
        canvas[y0:y1, x0:x1] = panel
    return canvas


def carry_box(box: Box, source: Box, target: Box) -> Box | None:
    """Maps a box from source image coordinates to the canvas.

    Args:
        box: Box to map, in source pixels.
        source: Region of the source image that fills the panel.
        target: Box of the panel on the canvas.

    Returns:
        The smallest box of whole pixels that covers the mapped box, clipped to the panel; None if
        the box lies outside the panel.
    """
    sx0, sy0, sx1, sy1 = source
    tx0, ty0, tx1, ty1 = target
    across, down = (tx1 - tx0) / (sx1 - sx0), (ty1 - ty0) / (sy1 - sy0)
    x0, x1 = max(box[0], sx0), min(box[2], sx1)
    y0, y1 = max(box[1], sy0), min(box[3], sy1)
    if x0 >= x1 or y0 >= y1:
        return None
    return (
        tx0 + math.floor((x0 - sx0) * across),
        ty0 + math.floor((y0 - sy0) * down),
        min(tx1, tx0 + math.ceil((x1 - sx0) * across)),
        min(ty1, ty0 + math.ceil((y1 - sy0) * down)),
    )


def widest_box(region: Box, width: int, height: int) -> tuple[int, int]:
    """Computes the largest size inside a region with the aspect ratio ``width`` x ``height``.

    Both sides are whole pixels and at least one; the aspect ratio is accurate to half a pixel.
    """
    across, down = region[2] - region[0], region[3] - region[1]
    if across * height >= down * width:
        return max(1, min(across, round(down * width / height))), down
    return across, max(1, min(down, round(across * height / width)))


def encode(canvas: Pixels, params: StitchParams) -> bytes:
    """Encodes a canvas [height, width, 3] without metadata; equal pixels give equal bytes.

    JPEG uses 4:4:4 chroma so that no chroma block crosses a panel border. PNG and WebP are
    lossless.
    """
    options: dict[str, dict[str, Any]] = {
        "jpg": {"format": "JPEG", "quality": params.quality, "subsampling": 0},
        "png": {"format": "PNG", "compress_level": 6},
        "webp": {"format": "WEBP", "lossless": True, "quality": 75, "method": 4, "exact": True},
    }
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, **options[params.format])
    return buffer.getvalue()
