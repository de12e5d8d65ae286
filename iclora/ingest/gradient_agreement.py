"""Gradients of pictures, and the sums that tell where those of many pictures agree.

Apart from ``marks``, which decides what an agreement means, because here is where the time goes:
planes are contiguous and every sum is one pass over them.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film import Pixels
from schemas.base import Box

GradientMap = NDArray[np.float32]
"""2 x height x width: gradients of at most unit length; or height x width: a map."""

_SHIFT = 4
SHIFTS = ((0, 0), (0, _SHIFT), (_SHIFT, 0), (_SHIFT, _SHIFT), (_SHIFT, -_SHIFT))
"""Places compared (down, across); those with the opposite sign follow by symmetry."""

_FLOOR = 1.5
"""Grey levels a pixel below which a gradient is noise and counts for less."""

_REACH = 4
"""Pixels around one on which its gradient depends."""

_EMPTY = 0.01
"""Mean gradient of a picture that is black, or of one colour."""

_SMALL_SIDE = 160
"""Of the small picture that tells whether two are alike as a whole."""


def unit_gradients(grey: Pixels) -> GradientMap:
    """Directions of the gradients of a slightly smoothed picture; faint ones are shorter."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.8)
    field: GradientMap = np.empty((2, *grey.shape), np.float32)
    cv2.Sobel(smooth, cv2.CV_32F, 1, 0, dst=field[0], scale=1 / 8)
    cv2.Sobel(smooth, cv2.CV_32F, 0, 1, dst=field[1], scale=1 / 8)
    length = cv2.magnitude(field[0], field[1], magnitude=smooth)
    np.maximum(length, np.float32(_FLOOR), out=length)
    field /= length
    return field


def gradients_in(grey: Pixels, box: Box) -> GradientMap:
    """The part of ``unit_gradients`` that lies in a box, without making the rest."""
    x0, y0, x1, y1 = box
    top, left = max(0, y0 - _REACH), max(0, x0 - _REACH)
    around = unit_gradients(grey[top : y1 + _REACH, left : x1 + _REACH])
    return around[:, y0 - top : y1 - top, x0 - left : x1 - left]


def small_gradients(grey: Pixels) -> GradientMap | None:
    """A picture's gradients, small and as one unit vector; None of an empty picture."""
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
    """The places p of a map for which p + shift is inside too."""
    (height, width), (down, across) = plane.shape, shift
    return slice(0, height - down), slice(max(0, -across), width - max(0, across))


def add_products(total: GradientMap, field: GradientMap, shift: tuple[int, int]) -> None:
    """Adds to every p of a map the product of the gradients at p and p + shift, if that is inside.

    In one pass over the memory, without copies: this is what looking for marks costs.
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
    """A map of which only the inside is known, moved and mirrored beyond its edges."""
    rows, columns = overlap_slices(plane, shift)
    top, left = rows.start + moved[0], columns.start + moved[1]
    bottom = plane.shape[0] - inside.shape[0] - top
    right = plane.shape[1] - inside.shape[1] - left
    return np.asarray(
        cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REFLECT_101), np.float32
    )
