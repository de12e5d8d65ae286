"""Where panels lie: stitching, its exact inverse, and boxes carried between pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.base import Box
from schemas.layout import Layout

Pixels = NDArray[np.uint8]
"""[height, width, 3], RGB."""


def stitch(panels: Sequence[Pixels], layout: Layout) -> Pixels:
    """Puts panels into their boxes; ``split`` gives the same bytes back.

    Args:
        panels: in reading order, each of the layout's panel size.
        layout: rows, columns and panel size.

    Raises:
        ValueError: a panel too many or too few, or of another size.
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


def split(canvas: Pixels, boxes: Sequence[Box]) -> list[Pixels]:
    """Cuts a canvas into its panels.

    Args:
        canvas: [height, width, 3].
        boxes: where the panels lie (``Layout.boxes``, or those a sample records).

    Raises:
        ValueError: a box reaches over the canvas's edge.
    """
    height, width = canvas.shape[:2]
    for x0, y0, x1, y1 in boxes:
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(f"box {(x0, y0, x1, y1)} is not inside {width} x {height} pixels")
    return [np.ascontiguousarray(canvas[y0:y1, x0:x1]) for x0, y0, x1, y1 in boxes]


def carry_box(box: Box, source: Box, target: Box) -> Box | None:
    """Where a region of a source picture lies on the canvas.

    Args:
        box: the region, in source pixels.
        source: the part of the source picture that the panel shows.
        target: the panel's box on the canvas.

    Returns:
        The smallest box of whole pixels that covers the region, cut at the panel's border; None
        if the panel does not show it.
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
    """The largest size inside a region that has the aspect of ``width`` x ``height``.

    Whole pixels, at least one each way; the aspect is met to half a pixel.
    """
    across, down = region[2] - region[0], region[3] - region[1]
    if across * height >= down * width:
        return max(1, min(across, round(down * width / height))), down
    return across, max(1, min(down, round(across * height / width)))
