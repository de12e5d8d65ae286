"""Detection of titles and credits overlaid on a picture, where most edges belong to the picture.

Overlaid lettering is more regular than filmed lettering. Small letters form long lines of exactly
one tone on one baseline. Large letters, which may touch, are white components with uniform
interiors and sharp edges, side by side, with as many strokes as a word. Lettering in the scene (a
sign, a book) shows lens and lighting effects and meets neither criterion.
"""

from __future__ import annotations

import cv2
import numpy as np

from iclora.filtering.checks import Limit, QualityCheck
from iclora.filtering.frame_image import FrameImage, Luma
from iclora.filtering.text_detection import mask_like
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


def title_share(image: FrameImage) -> float:
    """Computes the share (0-1) of a frame's area that overlaid lettering covers, outside masks."""
    picture, lines = image.text
    covered = np.zeros(picture.shape, np.bool_)
    small = [box for box, letters, uneven in lines if letters >= _LETTERS and uneven <= _ONE_TONE]
    for x0, y0, x1, y1 in small + large_lettering(picture):
        covered[y0:y1, x0:x1] = True
    covered &= ~mask_like(picture, image.masked)
    return float(covered.mean())


def large_lettering(picture: Luma) -> list[Box]:
    """Returns the boxes of large white letters (or groups of touching letters) in rows."""
    blocks = _white_blocks(picture)

    def in_one_row(block: Box, neighbor: Box) -> bool:
        shared = min(block[3], neighbor[3]) - max(block[1], neighbor[1])
        return 2 * shared >= min(block[3] - block[1], neighbor[3] - neighbor[1])

    return [
        box
        for box, _ in blocks
        if sum(sides for neighbor, sides in blocks if in_one_row(box, neighbor)) >= _SIDES
    ]


def _white_blocks(picture: Luma) -> list[tuple[Box, int]]:
    """Finds white components inside the picture with uniform interiors and sharp edges.

    Returns:
        Box and median number of stroke sides per pixel row of each component.
    """
    height, width = picture.shape
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (picture >= _WHITE).view(np.uint8), connectivity=4
    )
    large = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= _LEAST_AREA) + 1
    if not len(large):
        return []
    across, down = cv2.Sobel(picture, cv2.CV_32F, 1, 0), cv2.Sobel(picture, cv2.CV_32F, 0, 1)
    sharp = cv2.dilate(cv2.magnitude(across, down), np.ones((3, 3), np.uint8)) > _SHARP
    blocks: list[tuple[Box, int]] = []
    for label in large:
        x, y, w, h = (int(value) for value in stats[label, : cv2.CC_STAT_AREA])
        if not (x and y and x + w < width and y + h < height):
            continue
        around = (slice(y - 1, y + h + 1), slice(x - 1, x + w + 1))
        part = labels[around] == label
        inner = cv2.erode(part.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        rim = part & ~inner
        if not inner.any() or float(sharp[around][rim].mean()) < _SHARP_SHARE:
            continue
        if float(picture[around][inner].std()) > _EVEN:
            continue
        sides = np.abs(np.diff(part.astype(np.int8), axis=1)).sum(axis=1)
        blocks.append(((x, y, x + w, y + h), int(np.median(sides[1:-1]))))
    return blocks


CHECK = QualityCheck("title", title_share, (Limit("title", "max_title"),), order=5)
