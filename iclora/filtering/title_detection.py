"""Detection of titles and credits overlaid on a picture, where most edges belong to the picture.

Overlaid lettering is more regular than filmed lettering. Small letters form long lines of exactly
one tone on one baseline. Large letters, which may touch, are white components with uniform
interiors and sharp edges, side by side, with as many strokes as a word. Lettering in the scene (a
sign, a book) shows lens and lighting effects and meets neither criterion.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.filtering.text_detection import Luma, TextDetection, mask_like
from schemas.base import Box

_LETTERS = 8
"""Minimum number of letters in a line of small lettering."""

_ONE_TONE = 6.0
"""Maximum spread of the letters' extreme tones in 8-bit luma; random texture has 8 or more."""

_WHITE = 235
_LEAST_AREA = 150
"""Minimum area of a component in pixels, at 512 on the picture's longer side."""

_SHARP, _SHARP_SHARE = 250.0, 0.92
"""Minimum gradient of a sharp edge (Sobel, 8-bit luma), and the minimum fraction of a
component's rim with such edges. Bright sky between branches has up to 0.83."""

_EVEN = 2.0
"""Maximum standard deviation of luma inside a component."""

_SIDES = 12
"""Minimum number of stroke sides across a row of components: two per stroke, a word of six
strokes."""


class _Block(NamedTuple):
    """White component that may contain one or more large letters."""

    box: Box
    sides: int


def title_share(reading: TextDetection, masked: NDArray[np.bool_] | None = None) -> float:
    """Computes the share (0-1) of a picture's area that overlaid lettering covers.

    Args:
        reading: Detected text of the picture.
        masked: Mask of any size for overlays to ignore, because they are handled elsewhere.
    """
    picture = reading.picture
    covered = np.zeros(picture.shape, np.bool_)
    small = [line.box for line in reading.lines if _is_overlaid(line.letters, line.uneven)]
    for x0, y0, x1, y1 in small + large_lettering(picture):
        covered[y0:y1, x0:x1] = True
    covered &= ~mask_like(picture, masked)
    return round(float(covered.mean()), 4)


def _is_overlaid(letters: int, uneven: float) -> bool:
    return letters >= _LETTERS and uneven <= _ONE_TONE


def large_lettering(picture: Luma) -> list[Box]:
    """Returns the boxes of large white letters (or groups of touching letters) in rows."""
    blocks = _blocks(picture)
    return [
        block.box
        for block in blocks
        if sum(other.sides for other in blocks if _beside(block.box, other.box)) >= _SIDES
    ]


def _beside(one: Box, other: Box) -> bool:
    """Returns true if two boxes share half of the lesser height."""
    shared = min(one[3], other[3]) - max(one[1], other[1])
    return 2 * shared >= min(one[3] - one[1], other[3] - other[1])


def _blocks(picture: Luma) -> list[_Block]:
    """Finds white components inside the picture with uniform interiors and sharp edges."""
    height, width = picture.shape
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (picture >= _WHITE).view(np.uint8), connectivity=4
    )
    large = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= _LEAST_AREA) + 1
    if not len(large):
        return []
    sharp = _sharp_edges(picture)
    blocks: list[_Block] = []
    for label in large:
        x, y, w, h = (int(value) for value in stats[label, : cv2.CC_STAT_AREA])
        if not (x and y and x + w < width and y + h < height):
            continue
        part = labels[y - 1 : y + h + 1, x - 1 : x + w + 1] == label
        around = (slice(y - 1, y + h + 1), slice(x - 1, x + w + 1))
        if _is_drawn(part, picture[around], sharp[around]):
            sides = np.abs(np.diff(part.astype(np.int8), axis=1)).sum(axis=1)
            blocks.append(_Block((x, y, x + w, y + h), int(np.median(sides[1:-1]))))
    return blocks


def _sharp_edges(picture: Luma) -> NDArray[np.bool_]:
    across = cv2.Sobel(picture, cv2.CV_32F, 1, 0)
    steep = cv2.magnitude(across, cv2.Sobel(picture, cv2.CV_32F, 0, 1))
    return cv2.dilate(steep, np.ones((3, 3), np.uint8)) > _SHARP


def _is_drawn(part: NDArray[np.bool_], luma: Luma, sharp: NDArray[np.bool_]) -> bool:
    inner = cv2.erode(part.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    rim = part & ~inner
    if not inner.any() or float(sharp[rim].mean()) < _SHARP_SHARE:
        return False
    return float(luma[inner].std()) <= _EVEN
