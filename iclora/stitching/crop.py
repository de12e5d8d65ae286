"""Crop placement for panels.

The crop is the largest region with the panel's aspect ratio, so it slides along one axis only. It
covers as much saliency as possible, with a bias toward the center for images without a salient
region. With a face detector, a crop must contain each head entirely or not at all; a frame without
such a crop is rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.stitching.canvas import Pixels, widest_box
from iclora.stitching.saliency import saliency
from schemas.base import Box

_PULL = 0.15
"""Fraction of its saliency that a crop at the edge loses relative to the center."""

_HEAD_UP, _HEAD_SIDE, _HEAD_DOWN = 0.5, 0.2, 0.15
"""Fractions of a face box's height (up, down) and width (side) added for hair, chin and ears."""

_STEPS = 64
"""Number of evenly spaced candidate offsets, besides those that just include or exclude a head."""


class CropWindow(NamedTuple):
    """Crop of a frame that fills a panel."""

    box: Box
    """Crop box in source pixels."""

    heads_cut: int


def place_crop(
    pixels: Pixels,
    region: Box,
    panel: tuple[int, int],
    *,
    heads: Sequence[Box] = (),
    salient: bool = True,
) -> CropWindow:
    """Chooses the crop of a frame for a panel.

    Args:
        pixels: Frame pixels [height, width, 3].
        region: Region of the frame that contains picture content, in source pixels.
        panel: Width and height of the panel, in pixels.
        heads: Head boxes, each of which the crop must contain entirely or not at all.
        salient: Maximizes saliency if true; otherwise centers the crop.

    Returns:
        The best crop. If every crop cuts a head, one that cuts the fewest heads.
    """
    size = widest_box(region, *panel)
    rooms = (region[2] - region[0] - size[0], region[3] - region[1] - size[1])
    # The window slides along one axis: 0 is horizontal, 1 is vertical.
    axis = 0 if rooms[0] > rooms[1] else 1
    start, length, room = region[axis], size[axis], rooms[axis]
    spans = [span for head in heads if (span := _span(head, region, axis))]

    # Evenly spaced offsets, the center, and those that just include or exclude a head.
    offsets = {room * step // _STEPS for step in range(_STEPS + 1)} | {room // 2}
    for edge in (edge for span in spans for edge in span):
        offsets |= {edge - start, edge - start - length}
    ordered = sorted(offset for offset in offsets if 0 <= offset <= room)
    profile = _profile(pixels, region, axis) if salient else np.zeros(1)
    salience = _saliences(profile, length, room, ordered)

    def heads_cut(offset: int) -> int:
        low = start + offset
        shown = [(min(span[1], low + length) - max(span[0], low), span) for span in spans]
        return sum(0 < part < span[1] - span[0] for part, span in shown)

    def worth(offset: int) -> tuple[int, int, float, int, int]:
        low = start + offset
        whole = sum(low <= span[0] and span[1] <= low + length for span in spans)
        off_center = abs(2 * offset - room)
        return -heads_cut(offset), whole, salience[offset], -off_center, -offset

    best = max(ordered, key=worth)
    corner = [region[0] + rooms[0] // 2, region[1] + rooms[1] // 2]
    corner[axis] = start + best
    box = (corner[0], corner[1], corner[0] + size[0], corner[1] + size[1])
    return CropWindow(box, heads_cut(best))


def head_box(face: Box) -> Box:
    """Expands a face box to the whole head: hair, ears and chin."""
    width, height = face[2] - face[0], face[3] - face[1]
    side, up, down = round(width * _HEAD_SIDE), round(height * _HEAD_UP), round(height * _HEAD_DOWN)
    return face[0] - side, face[1] - up, face[2] + side, face[3] + down


def _span(head: Box, region: Box, axis: int) -> tuple[int, int] | None:
    """Returns the head's extent on the axis inside the region, or None if it lies outside."""
    x0, y0 = max(head[0], region[0]), max(head[1], region[1])
    x1, y1 = min(head[2], region[2]), min(head[3], region[3])
    if x0 >= x1 or y0 >= y1:
        return None
    return ((x0, x1), (y0, y1))[axis]


def _profile(pixels: Pixels, region: Box, axis: int) -> NDArray[np.float64]:
    """Computes saliency along the axis, summed across it; sums to one, or is zero everywhere."""
    x0, y0, x1, y1 = region
    luma = cv2.cvtColor(np.ascontiguousarray(pixels[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY)
    return saliency(luma.astype(np.uint8)).astype(np.float64).sum(axis=axis)


def _saliences(
    profile: NDArray[np.float64], length: int, room: int, offsets: Sequence[int]
) -> dict[int, float]:
    """Computes the fraction of saliency covered at each offset, minus the center bias."""
    if room == 0:
        return dict.fromkeys(offsets, 0.0)
    covered = np.concatenate([[0.0], np.cumsum(profile)])
    edges = np.linspace(0.0, length + room, len(covered))
    low = np.array(offsets, np.float64)
    shown = np.interp(low + length, edges, covered) - np.interp(low, edges, covered)
    off_center = np.abs(2 * low - room) / room
    worth = shown * (1 - _PULL * off_center)
    return {offset: round(float(value), 6) for offset, value in zip(offsets, worth, strict=True)}
