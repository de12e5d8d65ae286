"""Which part of a frame a panel shows.

The largest region of the panel's aspect is taken, so it slides along one axis only; it goes where
most of what is salient is, with a pull to the centre for pictures in which nothing is. Where a
face detector is given, no head may be cut: a place that shows a head shows all of it, and a frame
without such a place is refused.
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
"""Share of its salience that a place at the edge loses against the centre."""

_HEAD_UP, _HEAD_SIDE, _HEAD_DOWN = 0.5, 0.2, 0.15
"""A head is a face box grown by these shares of its height (hair, chin) and width (ears)."""

_STEPS = 64
"""Places that are tried along the axis, besides those that just hold or just leave a head."""


class CropWindow(NamedTuple):
    """What a panel shows of a frame."""

    box: Box
    """In source pixels."""

    heads_cut: int


class _CropAxis(NamedTuple):
    """The one axis along which the window moves."""

    axis: int
    """0 across, 1 down."""

    start: int
    """Where the region begins on this axis, in source pixels."""

    length: int
    """Of the window."""

    room: int
    """Pixels the window can move."""


def place_crop(
    pixels: Pixels,
    region: Box,
    panel: tuple[int, int],
    *,
    heads: Sequence[Box] = (),
    salient: bool = True,
) -> CropWindow:
    """Chooses what a panel shows of a frame.

    Args:
        pixels: the whole frame [height, width, 3].
        region: the part that is picture.
        panel: width and height of the panel.
        heads: boxes that must be shown whole or not at all.
        salient: look for what is salient; otherwise take the centre.

    Returns:
        The best place; if every place cuts a head, one that cuts the fewest.
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
    """The head around a face: hair above it, ears beside it, the chin below."""
    width, height = face[2] - face[0], face[3] - face[1]
    side, up, down = round(width * _HEAD_SIDE), round(height * _HEAD_UP), round(height * _HEAD_DOWN)
    return face[0] - side, face[1] - up, face[2] + side, face[3] + down


def _span(head: Box, region: Box, axis: int) -> tuple[int, int] | None:
    """The head's extent on the axis inside the region; None if it lies outside."""
    x0, y0 = max(head[0], region[0]), max(head[1], region[1])
    x1, y1 = min(head[2], region[2]), min(head[3], region[3])
    if x0 >= x1 or y0 >= y1:
        return None
    return ((x0, x1), (y0, y1))[axis]


def _cuts(span: tuple[int, int], low: int, high: int) -> bool:
    """Whether a window shows some of a head but not all of it."""
    shown = min(span[1], high) - max(span[0], low)
    return 0 < shown < span[1] - span[0]


def _offsets(slide: _CropAxis, spans: Sequence[tuple[int, int]]) -> list[int]:
    """Places to try: evenly spread, the centre, and those that just hold or leave a head."""
    places = {slide.room * step // _STEPS for step in range(_STEPS + 1)} | {slide.room // 2}
    for low, high in spans:
        for edge in (low, high):
            places |= {edge - slide.start, edge - slide.start - slide.length}
    return sorted(place for place in places if 0 <= place <= slide.room)


def _profile(pixels: Pixels, region: Box, axis: int) -> NDArray[np.float64]:
    """Salience along the axis, summed across it; sums to one, or all zero."""
    x0, y0, x1, y1 = region
    luma = cv2.cvtColor(np.ascontiguousarray(pixels[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY)
    return saliency(luma.astype(np.uint8)).astype(np.float64).sum(axis=axis)


def _saliences(
    profile: NDArray[np.float64], slide: _CropAxis, offsets: Sequence[int]
) -> dict[int, float]:
    """Share of the salience that a window shows at each offset, less the pull to the centre."""
    if slide.room == 0:
        return dict.fromkeys(offsets, 0.0)
    heap = np.concatenate([[0.0], np.cumsum(profile)])
    edges = np.linspace(0.0, slide.length + slide.room, len(heap))
    places = np.array(offsets, np.float64)
    shown = np.interp(places + slide.length, edges, heap) - np.interp(places, edges, heap)
    off_centre = np.abs(2 * places - slide.room) / slide.room
    worth = shown * (1 - _PULL * off_centre)
    return {offset: round(float(value), 6) for offset, value in zip(offsets, worth, strict=True)}
