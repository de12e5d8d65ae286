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

from iclora.stitching.geometry import Pixels, widest_box
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


class _CropAxis(NamedTuple):
    """Axis along which the crop window moves."""

    axis: int
    """0 for horizontal, 1 for vertical."""

    start: int
    """Start of the region on this axis, in source pixels."""

    length: int
    """Length of the window, in source pixels."""

    room: int
    """Number of pixels by which the window can move."""


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
    axis = 0 if rooms[0] > rooms[1] else 1
    slide = _CropAxis(axis, region[axis], size[axis], rooms[axis])
    spans = [span for head in heads if (span := _span(head, region, axis))]
    profile = _profile(pixels, region, axis) if salient else np.zeros(1)
    offsets = _offsets(slide, spans)
    salience = _saliences(profile, slide, offsets)

    def worth(offset: int) -> tuple[int, int, float, int, int]:
        low = slide.start + offset
        cut = sum(_cuts(span, low, low + slide.length) for span in spans)
        shown = sum(low <= span[0] and span[1] <= low + slide.length for span in spans)
        off_centre = abs(2 * offset - slide.room)
        return -cut, shown, salience[offset], -off_centre, -offset

    best = max(offsets, key=worth)
    corner = [region[0] + rooms[0] // 2, region[1] + rooms[1] // 2]
    corner[axis] = slide.start + best
    box = (corner[0], corner[1], corner[0] + size[0], corner[1] + size[1])
    return CropWindow(box, -worth(best)[0])


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


def _cuts(span: tuple[int, int], low: int, high: int) -> bool:
    """Returns true if the window contains part of a head but not all of it."""
    shown = min(span[1], high) - max(span[0], low)
    return 0 < shown < span[1] - span[0]


def _offsets(slide: _CropAxis, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Returns evenly spaced offsets, the center, and those that just include or exclude a head."""
    places = {slide.room * step // _STEPS for step in range(_STEPS + 1)} | {slide.room // 2}
    for low, high in spans:
        for edge in (low, high):
            places |= {edge - slide.start, edge - slide.start - slide.length}
    return sorted(place for place in places if 0 <= place <= slide.room)


def _profile(pixels: Pixels, region: Box, axis: int) -> NDArray[np.float64]:
    """Computes saliency along the axis, summed across it; sums to one, or is zero everywhere."""
    x0, y0, x1, y1 = region
    luma = cv2.cvtColor(np.ascontiguousarray(pixels[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY)
    return saliency(luma.astype(np.uint8)).astype(np.float64).sum(axis=axis)


def _saliences(
    profile: NDArray[np.float64], slide: _CropAxis, offsets: Sequence[int]
) -> dict[int, float]:
    """Computes the fraction of saliency covered at each offset, minus the center bias."""
    if slide.room == 0:
        return dict.fromkeys(offsets, 0.0)
    heap = np.concatenate([[0.0], np.cumsum(profile)])
    edges = np.linspace(0.0, slide.length + slide.room, len(heap))
    places = np.array(offsets, np.float64)
    shown = np.interp(places + slide.length, edges, heap) - np.interp(places, edges, heap)
    off_centre = np.abs(2 * places - slide.room) / slide.room
    worth = shown * (1 - _PULL * off_centre)
    return {offset: round(float(value), 6) for offset, value in zip(offsets, worth, strict=True)}
