"""Titles and credits that were put over a picture: there the picture owns most edges.

What was put on afterwards is more regular than anything that was filmed. Small lettering: many
letters of exactly one tone on one baseline. Large lettering, whose letters may touch: white parts
that are even inside and sharp all around, side by side, with as many strokes as a word has.
Lettering that belongs to the scene (a sign, a book) is seen through a lens, in some light, and is
neither.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.filtering.text_detection import Luma, TextDetection, mask_like
from schemas.base import Box

_LETTERS = 8
"""Letters of a line of small lettering."""

_ONE_TONE = 6.0
"""Spread of their extreme tones, steps of 8-bit luma; chance lines of a texture have 8 and more."""

_WHITE = 235
_LEAST_AREA = 150
"""Pixels of a part, at 512 on the picture's longer side."""

_SHARP, _SHARP_SHARE = 250.0, 0.92
"""Gradient (Sobel, 8-bit luma) of a sharp edge, and the share of a part's rim that has one; bright
sky between branches has up to 0.83."""

_EVEN = 2.0
"""Spread of the luma inside a part."""

_SIDES = 12
"""Sides of strokes met across a row of such parts: two a stroke, so a word of six strokes."""


class _Block(NamedTuple):
    """A white part that may be one or several large letters."""

    box: Box
    sides: int


def title_share(reading: TextDetection, masked: NDArray[np.bool_] | None = None) -> float:
    """Share (0-1) of a picture's area that lettering put over it takes.

    Args:
        reading: of the picture.
        masked: where to look away, at any size: overlays that are dealt with elsewhere.
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
    """Rows of large white letters, the box of each letter (or of those that touch)."""
    blocks = _blocks(picture)
    return [
        block.box
        for block in blocks
        if sum(other.sides for other in blocks if _beside(block.box, other.box)) >= _SIDES
    ]


def _beside(one: Box, other: Box) -> bool:
    """Whether two boxes share half of the height of the lower one."""
    shared = min(one[3], other[3]) - max(one[1], other[1])
    return 2 * shared >= min(one[3] - one[1], other[3] - other[1])


def _blocks(picture: Luma) -> list[_Block]:
    """White parts within the picture that are even inside and sharp all around."""
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
