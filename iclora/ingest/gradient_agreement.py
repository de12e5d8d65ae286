"""Picture gradients, and running sums of their agreement across pictures.

Contains the performance-critical part of watermark detection: planes are contiguous, and every sum
is a single pass over them. ``watermarks`` interprets the results.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film_decoder import Pixels
from schemas.base import Box

GradientMap = NDArray[np.float32]
"""Gradients of length 0 to 1, shape (2, height, width), or a scalar map, shape (height, width)."""

_SHIFT = 4
SHIFTS = ((0, 0), (0, _SHIFT), (_SHIFT, 0), (_SHIFT, _SHIFT), (_SHIFT, -_SHIFT))
"""Compared offsets (down, across) in pixels; the opposite offsets follow by symmetry."""

_FLOOR = 1.5
"""Gradient magnitude in gray levels per pixel below which gradients are attenuated as noise."""

_REACH = 4
"""Radius in pixels of the neighborhood that determines a gradient."""

_EMPTY = 0.01
"""Mean gradient below which a picture counts as a single color."""

_SMALL_SIDE = 160
"""Longer side in pixels of the thumbnail for comparing whole pictures."""


def unit_gradients(grey: Pixels) -> GradientMap:
    """Computes gradient directions of a slightly smoothed picture; shortens faint gradients."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.8)
    field: GradientMap = np.empty((2, *grey.shape), np.float32)
    cv2.Sobel(smooth, cv2.CV_32F, 1, 0, dst=field[0], scale=1 / 8)
    cv2.Sobel(smooth, cv2.CV_32F, 0, 1, dst=field[1], scale=1 / 8)
    length = cv2.magnitude(field[0], field[1], magnitude=smooth)
    np.maximum(length, np.float32(_FLOOR), out=length)
    field /= length
    return field


def gradients_in(grey: Pixels, box: Box) -> GradientMap:
    """Computes ``unit_gradients`` within a box only."""
    x0, y0, x1, y1 = box
    top, left = max(0, y0 - _REACH), max(0, x0 - _REACH)
    around = unit_gradients(grey[top : y1 + _REACH, left : x1 + _REACH])
    return around[:, y0 - top : y1 - top, x0 - left : x1 - left]


def small_gradients(grey: Pixels) -> GradientMap | None:
    """Computes thumbnail gradients as one unit vector; returns None for an empty picture."""
    height, width = grey.shape
    scale = min(1.0, _SMALL_SIDE / max(height, width))
    size = (max(4, round(width * scale)), max(4, round(height * scale)))
    field = unit_gradients(
        np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    ).ravel()
    if np.abs(field).mean() < _EMPTY:
        return None
    return field / np.float32(np.linalg.norm(field))


def overlap_slices(plane: GradientMap, shift: tuple[int, int]) -> tuple[slice, slice]:
    """Returns the slices of all p in a map for which p + shift is also inside."""
    (height, width), (down, across) = plane.shape, shift
    return slice(0, height - down), slice(max(0, -across), width - max(0, across))


def add_products(total: GradientMap, field: GradientMap, shift: tuple[int, int]) -> None:
    """Adds the product of the gradients at p and p + shift to every p with p + shift inside.

    Runs in one pass over the memory, without copies. This dominates the cost of the detection.
    """
    rows, columns = overlap_slices(total, shift)
    there = (
        slice(rows.start + shift[0], rows.stop + shift[0]),
        slice(columns.start + shift[1], columns.stop + shift[1]),
    )
    for plane in field:
        cv2.accumulateProduct(plane[rows, columns], plane[there], total[rows, columns])


def pad_map(
    inside: GradientMap, plane: GradientMap, moved: tuple[int, int], shift: tuple[int, int]
) -> GradientMap:
    """Places the known interior of a map at an offset and mirrors it beyond its edges."""
    rows, columns = overlap_slices(plane, shift)
    top, left = rows.start + moved[0], columns.start + moved[1]
    bottom = plane.shape[0] - inside.shape[0] - top
    right = plane.shape[1] - inside.shape[1] - left
    return np.asarray(
        cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REFLECT_101), np.float32
    )
