"""Logo and watermark detection: finds small drawings that stay fixed while the rest changes.

The detector compares gradient directions of pictures from one source at equal positions. Unrelated
pictures agree by chance, and along long edges for many pixels, but they agree just as well after a
small shift along the edge. A drawing on both pictures agrees only in place. The score is therefore
the agreement in place minus the best agreement a few pixels away. Pictures that are similar as a
whole (one camera, one background) carry no information and are skipped.

The comparison uses running sums instead of all pairs: for unit gradients u_i and their sum T, the
sum over pairs i != j of u_i(p) u_j(p + d) is T(p) T(p + d) - sum_i u_i(p) u_i(p + d).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film_decoder import Pixels
from schemas.base import Box

GradientMap = NDArray[np.float32]
"""Gradients of length 0 to 1, shape (2, height, width), or a scalar map, shape (height, width)."""

_SHIFT = 4
_SHIFTS = ((0, 0), (0, _SHIFT), (_SHIFT, 0), (_SHIFT, _SHIFT), (_SHIFT, -_SHIFT))
"""Compared offsets (down, across) in pixels; the opposite offsets follow by symmetry."""

_FLOOR = 1.5
"""Gradient magnitude in gray levels per pixel below which gradients are attenuated as noise."""

_REACH = 4
"""Radius in pixels of the neighborhood that determines a gradient."""

_EMPTY = 0.01
"""Mean gradient below which a picture counts as a single color."""

_SMALL_SIDE = 160
"""Longer side in pixels of the thumbnail for comparing whole pictures."""

MIN_PICTURES = 3
"""Minimum number of distinct pictures needed to separate a mark from a background."""

_WINDOWS = (64, 32)
"""Ratios of picture width to window height; windows are twice as wide as high."""

_PEAK, _CHANCE = 0.07, 0.085
"""Minimum score, and the increment for chance agreement of one pair of pictures. The increment
shrinks with the square root of the number of pairs."""

_DENSE = 0.12
"""Minimum smoothed agreement of the pixels of a mark."""

_CORE = 0.4
"""Minimum agreement of the pixels of a mark, as a fraction of their maximum."""

_MAX_PICTURES = 24
"""Maximum number of compared pictures; more add no information."""

_SAME_SCENE_COSINE = 0.3
"""Minimum cosine of the gradients of two pictures for them to be similar as a whole."""

_GAP = np.ones((5, 5), np.uint8)
"""Kernel that joins nearby letters into one drawing."""

_MIN_RELATIVE_AGREEMENT = 0.25
"""Minimum summed agreement of a component, as a fraction of the best component."""

_MIN_PIXELS = 24
_MAX_AREA = 0.1
"""Maximum area of a mark, as a fraction of the picture; larger regions are background."""

_BORDER = 0.35
"""Maximum distance of a mark from a corner, as a fraction of each side."""

_CORNER = 0.25
"""Size of the compared corners for pictures of different sizes, as a fraction of the smallest
sides."""

_MIN_PRESENT = 0.5
"""Minimum fraction of pictures that carry the mark."""


class WatermarkDetector:
    """A running comparison of pictures of one size, or of equal corners of pictures."""

    def __init__(self, width: int, height: int, picture_width: int = 0) -> None:
        self._picture_width = picture_width or width
        self._size = (width, height)
        self._sum: GradientMap = np.zeros((2, height, width), np.float32)
        self._own = {shift: np.zeros((height, width), np.float32) for shift in _SHIFTS}
        self._small: list[GradientMap] = []
        self._compared: list[Pixels] = []

    def add_picture(self, grey: Pixels) -> None:
        """Adds one picture unless it is similar to an earlier one."""
        small = _small_gradients(grey) if len(self._compared) < _MAX_PICTURES else None
        if small is None or any(
            float(np.dot(small, other)) >= _SAME_SCENE_COSINE for other in self._small
        ):
            return
        self._small.append(small)
        field = _unit_gradients(grey)
        self._sum += field
        for shift in _SHIFTS:
            _add_products(self._own[shift], field, shift)
        self._compared.append(grey)

    def boxes(self) -> tuple[Box, ...]:
        """Returns the boxes of detected marks, in pixels of the pictures."""
        if len(self._compared) < MIN_PICTURES:
            return ()
        agreement = self._agreement()
        return tuple(
            box for box in self._regions(agreement) if self._share_with_mark(box) >= _MIN_PRESENT
        )

    def _regions(self, agreement: dict[tuple[int, int], GradientMap]) -> list[Box]:
        """Finds boxes around regions where pictures agree in place but not when shifted."""
        threshold = _PEAK + _CHANCE / math.sqrt(math.comb(len(self._compared), 2))
        regions = np.zeros(self._sum.shape[1:], np.uint8)
        for part in _WINDOWS:
            high = max(7, self._picture_width // part) | 1
            window = (2 * high + 1, high)
            smooth = {shift: cv2.boxFilter(plane, -1, window) for shift, plane in agreement.items()}
            nearby = np.maximum.reduce(
                [plane for shift, plane in smooth.items() if shift != (0, 0)]
            )
            centers = (smooth[0, 0] - nearby >= threshold).astype(np.uint8)
            grown = cv2.dilate(centers, np.ones((high, 2 * high + 1), np.uint8))
            regions = np.maximum(regions, np.asarray(grown, np.uint8))
        count, labels = cv2.connectedComponents(regions)
        boxes = [_tight_box(agreement[0, 0], labels == label) for label in range(1, count)]
        return [box for box in boxes if box is not None]

    def _agreement(self) -> dict[tuple[int, int], GradientMap]:
        """Computes the mean gradient product over all pairs of pictures, per shift."""
        pairs = math.perm(len(self._compared), 2)
        maps: dict[tuple[int, int], GradientMap] = {}
        for shift, own in self._own.items():
            both = np.zeros_like(own)
            _add_products(both, self._sum, shift)
            inside = (both - own)[_overlap_slices(own, shift)] / np.float32(pairs)
            maps[shift] = _pad_map(inside, own, (0, 0), shift)
            maps[-shift[0], -shift[1]] = _pad_map(inside, own, shift, shift)
        return maps

    def _share_with_mark(self, box: Box) -> float:
        """Computes the fraction of pictures whose gradients in a box agree with the others."""
        x0, y0, x1, y1 = box
        total = self._sum[:, y0:y1, x0:x1]
        bearing = 0
        for picture in self._compared:
            own = _gradients_in(picture, box)
            others = (total - own) / (len(self._compared) - 1)
            scale = float(np.sqrt((own**2).sum() * (others**2).sum()))
            bearing += scale > 0 and float((own * others).sum()) / scale >= _SAME_SCENE_COSINE / 2
        return bearing / len(self._compared)


def _tight_box(in_place: GradientMap, region: NDArray[np.bool_]) -> Box | None:
    """Computes the box of the agreeing pixels of a region, without isolated specks."""
    near = cv2.boxFilter(in_place, -1, (5, 5))
    least = max(_DENSE, _CORE * float(near[region].max()))
    agreeing = region & (near >= least)
    if agreeing.sum() < _MIN_PIXELS:
        return None
    joined = cv2.morphologyEx(agreeing.astype(np.uint8), cv2.MORPH_CLOSE, _GAP)
    count, labels = cv2.connectedComponents(joined)
    masses = [float(near[agreeing & (labels == label)].sum()) for label in range(1, count)]
    solid = [
        n for n, mass in enumerate(masses, start=1) if mass >= _MIN_RELATIVE_AGREEMENT * max(masses)
    ]
    ys, xs = np.nonzero(agreeing & np.isin(labels, solid))
    # Smoothing extends two pixels beyond the agreeing pixels, and edges lie one pixel outside the
    # drawing; a margin of one pixel remains.
    return (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)


class Watermark(NamedTuple):
    """A mark anchored to a corner, independent of the picture size."""

    x0: int
    y0: int
    x1: int
    y1: int
    right: bool
    """True if ``x0`` and ``x1`` are relative to the right side (negative values)."""

    bottom: bool

    def box_on(self, width: int, height: int) -> Box:
        """Computes the box of the mark in a picture of the given size."""
        x, y = self.right * width, self.bottom * height
        return (self.x0 + x, self.y0 + y, self.x1 + x, self.y1 + y)


def find_watermarks(pictures: Sequence[Pixels]) -> tuple[Watermark, ...]:
    """Finds the marks shared by the pictures of one source.

    Compares whole pictures if all have one size. Otherwise compares each corner separately, because
    a watermark keeps its distance from its corner.

    Args:
        pictures: Luma of each picture.
    """
    sizes = {picture.shape for picture in pictures}
    if len(sizes) > 1:
        corners = itertools.product((False, True), (False, True))
        return tuple(
            mark
            for right, bottom in corners
            for mark in _marks_in_corner(pictures, right=right, bottom=bottom)
        )
    if not pictures:
        return ()
    height, width = pictures[0].shape
    detector = WatermarkDetector(width, height)
    for picture in pictures:
        detector.add_picture(picture)
    marks: list[Watermark] = []
    for x0, y0, x1, y1 in detector.boxes():
        # Keep small boxes near a corner, relative to that corner.
        small = (x1 - x0) * (y1 - y0) <= _MAX_AREA * width * height
        x, y = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height
        if small and min(x, 1 - x) <= _BORDER and min(y, 1 - y) <= _BORDER:
            right, bottom = x0 + x1 > width, y0 + y1 > height
            x, y = right * width, bottom * height
            marks.append(Watermark(x0 - x, y0 - y, x1 - x, y1 - y, right, bottom))
    return tuple(marks)


def _marks_in_corner(pictures: Sequence[Pixels], *, right: bool, bottom: bool) -> list[Watermark]:
    """Finds marks in one corner of pictures of different sizes."""
    least_wide = min(picture.shape[1] for picture in pictures)
    wide = round(least_wide * _CORNER)
    high = round(min(picture.shape[0] for picture in pictures) * _CORNER)
    detector = WatermarkDetector(wide, high, least_wide)
    for picture in pictures:
        y = picture.shape[0] - high if bottom else 0
        x = picture.shape[1] - wide if right else 0
        detector.add_picture(picture[y : y + high, x : x + wide])
    x, y = right * wide, bottom * high
    return [
        Watermark(x0 - x, y0 - y, x1 - x, y1 - y, right, bottom)
        for x0, y0, x1, y1 in detector.boxes()
    ]


def _unit_gradients(grey: Pixels) -> GradientMap:
    """Computes gradient directions of a slightly smoothed picture; shortens faint gradients."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.8)
    field: GradientMap = np.empty((2, *grey.shape), np.float32)
    cv2.Sobel(smooth, cv2.CV_32F, 1, 0, dst=field[0], scale=1 / 8)
    cv2.Sobel(smooth, cv2.CV_32F, 0, 1, dst=field[1], scale=1 / 8)
    length = cv2.magnitude(field[0], field[1], magnitude=smooth)
    np.maximum(length, np.float32(_FLOOR), out=length)
    field /= length
    return field


def _gradients_in(grey: Pixels, box: Box) -> GradientMap:
    """Computes ``_unit_gradients`` within a box only."""
    x0, y0, x1, y1 = box
    top, left = max(0, y0 - _REACH), max(0, x0 - _REACH)
    around = _unit_gradients(grey[top : y1 + _REACH, left : x1 + _REACH])
    return around[:, y0 - top : y1 - top, x0 - left : x1 - left]


def _small_gradients(grey: Pixels) -> GradientMap | None:
    """Computes thumbnail gradients as one unit vector; returns None for an empty picture."""
    height, width = grey.shape
    scale = min(1.0, _SMALL_SIDE / max(height, width))
    size = (max(4, round(width * scale)), max(4, round(height * scale)))
    field = _unit_gradients(
        np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    ).ravel()
    if np.abs(field).mean() < _EMPTY:
        return None
    return field / np.float32(np.linalg.norm(field))


def _overlap_slices(plane: GradientMap, shift: tuple[int, int]) -> tuple[slice, slice]:
    """Returns the slices of all p in a map for which p + shift is also inside."""
    (height, width), (down, across) = plane.shape, shift
    return slice(0, height - down), slice(max(0, -across), width - max(0, across))


def _add_products(total: GradientMap, field: GradientMap, shift: tuple[int, int]) -> None:
    """Adds the product of the gradients at p and p + shift to every p with p + shift inside.

    Runs in one pass over the memory, without copies. This dominates the cost of the detection.
    """
    rows, columns = _overlap_slices(total, shift)
    shifted = (
        slice(rows.start + shift[0], rows.stop + shift[0]),
        slice(columns.start + shift[1], columns.stop + shift[1]),
    )
    for plane in field:
        cv2.accumulateProduct(plane[rows, columns], plane[shifted], total[rows, columns])


def _pad_map(
    inside: GradientMap, plane: GradientMap, moved: tuple[int, int], shift: tuple[int, int]
) -> GradientMap:
    """Places the known interior of a map at an offset and mirrors it beyond its edges."""
    rows, columns = _overlap_slices(plane, shift)
    top, left = rows.start + moved[0], columns.start + moved[1]
    bottom = plane.shape[0] - inside.shape[0] - top
    right = plane.shape[1] - inside.shape[1] - left
    return np.asarray(
        cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REFLECT_101), np.float32
    )
