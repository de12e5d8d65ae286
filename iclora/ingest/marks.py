"""Logos and watermarks: small drawings that stay put while everything else changes.

Gradient directions of pictures of one source are compared at equal places. Two unrelated pictures
agree by chance, and along long edges they agree for many pixels; but then they agree as well when
one of them is moved a little along the edge. A drawing that was put on both agrees only where it
is, so what counts is the agreement in place over the best agreement a few pixels away. Pictures
that are alike as a whole (one camera, one background) say nothing and are passed over.

The comparison is a running sum, so that memory does not grow with the number of pictures: for unit
gradients u_i and their sum T, the sum over pairs i != j of u_i(p) u_j(p + d) is
T(p) T(p + d) - sum_i u_i(p) u_i(p + d).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film import Pixels
from schemas.base import Box

Field = NDArray[np.float32]
"""Height x width x 2: gradients of at most unit length; or height x width: a map."""

LEAST_PICTURES = 3
"""Fewer different pictures cannot tell a mark from a background."""

_SHIFT = 4
_SHIFTS = ((0, 0), (0, _SHIFT), (_SHIFT, 0), (_SHIFT, _SHIFT), (_SHIFT, -_SHIFT))
"""Places compared (down, across); those with the opposite sign follow by symmetry."""

_FLOOR = 1.5
"""Grey levels a pixel below which a gradient is noise and counts for less."""

_WINDOWS = (64, 32)
"""A mark is looked for in windows this many times lower than the picture is wide, twice as wide
as high."""

_PEAK = 0.12
"""Agreement in place over the best agreement nearby."""

_ALIKE = 0.3
"""Cosine of two pictures' gradients from which they are alike as a whole."""

_EMPTY = 0.01
"""Mean gradient of a picture that is black, or of one colour."""

_ALIKE_SIDE = 160
_LEAST_PIXELS = 24
_LARGEST = 0.1
"""Of the picture's area; anything larger is a background."""

_BORDER = 0.35
"""A mark lies within this share of the sides from a corner."""

_PRESENT = 0.5
"""Share of the pictures that must bear the mark."""


class MarkGauge:
    """Compares pictures of one size."""

    def __init__(self, width: int, height: int) -> None:
        self.seen = 0
        self._size = (width, height)
        self._sum: Field = np.zeros((height, width, 2), np.float32)
        self._own = {shift: np.zeros((height, width), np.float32) for shift in _SHIFTS}
        self._small: list[Field] = []
        self._kept: list[NDArray[np.int8]] = []

    def look(self, grey: Pixels) -> bool:
        """Takes one picture into account unless it is like an earlier one.

        Returns:
            Whether it was different enough.
        """
        small = _small_field(grey)
        if np.abs(small).mean() < _EMPTY or any(_likeness(small, other) >= _ALIKE for other in self._small):
            return False
        self._small.append(small)
        field = unit_gradients(grey)
        self.seen += 1
        self._sum += field
        for shift, own in self._own.items():
            own += _dot(field, _moved(field, shift))
        self._kept.append(np.round(field * 127).astype(np.int8))
        return True

    def boxes(self) -> tuple[Box, ...]:
        """The marks found, in pixels of the pictures."""
        if self.seen < LEAST_PICTURES:
            return ()
        agreement = self._agreement()
        return tuple(
            box
            for box in _regions(agreement, self._size)
            if self._share_bearing(box) >= _PRESENT
        )

    def _agreement(self) -> dict[tuple[int, int], Field]:
        """For each shift the mean over pairs of the products of their gradients."""
        pairs = self.seen * (self.seen - 1)
        maps: dict[tuple[int, int], Field] = {}
        for shift, own in self._own.items():
            one = (_dot(self._sum, _moved(self._sum, shift)) - own) / pairs
            maps[shift] = one
            back = (-shift[0], -shift[1])
            maps[back] = np.roll(one, shift, (0, 1))
        return maps

    def _share_bearing(self, box: Box) -> float:
        """The share of pictures whose gradients in a box agree with those of the others."""
        x0, y0, x1, y1 = box
        total = self._sum[y0:y1, x0:x1]
        bearing = 0
        for kept in self._kept:
            own = kept[y0:y1, x0:x1].astype(np.float32) / 127
            others = (total - own) / (self.seen - 1)
            scale = float(np.sqrt((own**2).sum() * (others**2).sum()))
            bearing += scale > 0 and float((own * others).sum()) / scale >= _ALIKE / 2
        return bearing / self.seen


def unit_gradients(grey: Pixels) -> Field:
    """Directions of the gradients of a slightly smoothed picture; faint ones are shorter."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.8)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) / 8
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1) / 8
    length = np.maximum(np.hypot(across, down), _FLOOR)
    return np.stack([across / length, down / length], axis=-1).astype(np.float32)


def _small_field(grey: Pixels) -> Field:
    height, width = grey.shape
    scale = min(1.0, _ALIKE_SIDE / max(height, width))
    size = (max(4, round(width * scale)), max(4, round(height * scale)))
    return unit_gradients(np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8))


def _likeness(one: Field, other: Field) -> float:
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale


def _moved(field: Field, shift: tuple[int, int]) -> Field:
    """The field whose value at p is the old one's at p + shift."""
    return np.roll(field, (-shift[0], -shift[1]), (0, 1)) if shift != (0, 0) else field


def _dot(one: Field, other: Field) -> Field:
    return np.asarray(np.einsum("hwc,hwc->hw", one, other), np.float32)


def _regions(agreement: dict[tuple[int, int], Field], size: tuple[int, int]) -> list[Box]:
    """Boxes around places where pictures agree, and only exactly there."""
    width, height = size
    found = np.zeros((height, width), np.uint8)
    for part in _WINDOWS:
        high = max(7, width // part) | 1
        window = (2 * high + 1, high)
        smooth = {shift: cv2.boxFilter(one, -1, window) for shift, one in agreement.items()}
        nearby = np.maximum.reduce([one for shift, one in smooth.items() if shift != (0, 0)])
        peak = smooth[0, 0] - nearby
        centres = (peak >= _PEAK).astype(np.uint8)
        found |= cv2.dilate(centres, np.ones((high, 2 * high + 1), np.uint8))
    count, labels = cv2.connectedComponents(found)
    boxes = [_tight_box(agreement[0, 0], labels == label) for label in range(1, count)]
    return [box for box in boxes if box is not None and _is_marklike(box, size)]


def _tight_box(in_place: Field, region: NDArray[np.bool_]) -> Box | None:
    """The box of the agreeing pixels of a region."""
    near = cv2.boxFilter(in_place, -1, (5, 5))
    ys, xs = np.nonzero(region & (near >= _PEAK))
    if xs.size < _LEAST_PIXELS:
        return None
    # The smoothing reached two pixels beyond what agrees.
    x0, y0, x1, y1 = xs.min() + 2, ys.min() + 2, xs.max() - 1, ys.max() - 1
    return (int(x0), int(y0), int(x1), int(y1)) if x0 < x1 and y0 < y1 else None


def _is_marklike(box: Box, size: tuple[int, int]) -> bool:
    """Small, and near a corner."""
    (x0, y0, x1, y1), (width, height) = box, size
    if (x1 - x0) * (y1 - y0) > _LARGEST * width * height:
        return False
    x, y = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height
    return min(x, 1 - x) <= _BORDER and min(y, 1 - y) <= _BORDER


def distinct_enough(pictures: Sequence[Pixels]) -> MarkGauge | None:
    """A gauge that has looked at all of some pictures of one size; None for no pictures."""
    if not pictures:
        return None
    height, width = pictures[0].shape
    gauge = MarkGauge(width, height)
    for picture in pictures:
        gauge.look(picture)
    return gauge
