"""Detection of lines of text in a picture.

Lines are found without a model: small, uniform components that are brighter or darker than their
surroundings, similar in height, and side by side on one baseline.
"""

from __future__ import annotations

from itertools import compress
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.base import Box

_SIDE, _ZOOM = 512, 2
"""Longer side in pixels for edge detection, and the extra zoom for letters, because credits of
12 px have strokes of one pixel."""

_HAT = 41
"""Kernel size for top-hat filtering in zoomed pixels; wider than any stroke."""

_NEAR = 9
"""Size of the neighborhood in which a letter must be among the strongest, in zoomed pixels."""

_CONTRAST = 40
"""Minimum contrast of a letter in 8-bit luma."""

_MIN_HEIGHT, _MAX_HEIGHT = 8, 192
"""Range of a letter's height, in zoomed pixels."""

_MAX_ASPECT = 8.0
"""Maximum ratio of width to height; touching letters form one long component."""

_FILL = (0.18, 0.92)
"""Range of the fraction of its box that a letter covers."""

_EVEN = 0.35
"""Maximum standard deviation of luma within a letter, as a fraction of its contrast."""

_LETTERS, _SHORT = 4, 2
"""Minimum number of components in a line, and in a line above or below another one."""

_LINE_GAP = 2.5
"""Maximum gap between such lines, in letter heights."""

_UNLIKE, _OVERLAP, _BAND = 2.2, 0.6, 1.5
"""Limits for neighboring letters: maximum ratio of heights, minimum shared height, and maximum
height of their line in letter heights."""

_SPACE = 1.2
"""Maximum gap in a line, including gaps between words, in letter heights."""

_REACH = _SPACE * _UNLIKE
"""Maximum distance at which a line can continue, in heights of its last letter."""

_SAME_TONE = 30.0
"""Maximum difference in 8-bit luma between a letter and the preceding ones."""

_LEVEL = 0.6
"""Minimum fraction of a line's components on its baseline; others hang below it or float."""

_SPECK = 0.5
"""Minimum height of a component relative to the letters; smaller ones are dots or noise."""

_ALONE = 0.65
"""Minimum fraction of a line's high-contrast components that are letters; the rest are dots and
accents."""

Luma = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]


class _Component(NamedTuple):
    """Small uniform component that may be a letter."""

    x0: int
    y0: int
    x1: int
    y1: int
    tone: float
    """Mean 8-bit luma."""

    @property
    def height(self) -> int:
        return self.y1 - self.y0


class TextLine(NamedTuple):
    """Line of text on one baseline."""

    box: Box
    """Box in pixels of the analyzed picture."""

    letters: int
    uneven: float
    """Standard deviation of the letters' extreme tones, in 8-bit luma. Thin strokes blend with
    the background, but each letter has some thicker part."""


class TextDetection(NamedTuple):
    """Text lines of a picture that is 512 pixels on its longer side."""

    picture: Luma
    lines: tuple[TextLine, ...]


def detect_text(luma: Luma) -> TextDetection:
    """Detects lines of text in luma [height, width] of any size."""
    picture = _resized(luma, _SIDE)
    large = _resized(picture, _ZOOM * _SIDE)
    kernel = np.ones((_HAT, _HAT), np.uint8)
    lines: list[TextLine] = []
    for operation, extreme in ((cv2.MORPH_TOPHAT, np.max), (cv2.MORPH_BLACKHAT, np.min)):
        contrast = cv2.morphologyEx(large, operation, kernel).astype(np.uint8)
        for line in _find_lines(*_find_letters(large, contrast)):
            tones = [float(extreme(large[part.y0 : part.y1, part.x0 : part.x1])) for part in line]
            x0, y0, x1, y1 = (side / _ZOOM for side in _box(line))
            box = (int(x0), int(y0), int(np.ceil(x1)), int(np.ceil(y1)))
            lines.append(TextLine(box, len(line), float(np.std(tones))))
    return TextDetection(picture, tuple(lines))


def mask_like(picture: Luma, masked: Mask) -> Mask:
    """Resizes a mask to the size of a picture."""
    size = (picture.shape[1], picture.shape[0])
    return cv2.resize(masked.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0


def _resized(luma: Luma, side: int) -> Luma:
    """Resizes luma to the given length of its longer side."""
    scale = side / max(luma.shape)
    size = (max(1, round(luma.shape[1] * scale)), max(1, round(luma.shape[0] * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return luma if scale == 1 else cv2.resize(luma, size, interpolation=way).astype(np.uint8)


def _find_letters(luma: Luma, contrast: Luma) -> tuple[list[_Component], Points]:
    """Finds connected components with the contrast and shape of letters.

    A threshold of half the neighborhood's contrast separates letters that almost touch. Components
    use 8-connectivity, because strokes of coarse letters may meet only at corners.

    Returns:
        Components that may be letters, and the center and height (x, y, height) [n, 3] of all
        high-contrast components.
    """
    around = cv2.dilate(contrast, np.ones((_NEAR, _NEAR), np.uint8))
    marked = contrast > np.maximum(_CONTRAST, around // 2)
    # 16-bit labels take half the time. The number of labels, including provisional ones, cannot
    # exceed the number of runs in all rows.
    runs = int(np.count_nonzero(marked[:, 1:] > marked[:, :-1])) + len(marked)
    kind = cv2.CV_16U if runs < np.iinfo(np.uint16).max else cv2.CV_32S
    count, labels, stats, centers = cv2.connectedComponentsWithStats(
        marked.view(np.uint8), connectivity=8, ltype=kind
    )
    x0, y0, width, height, area = stats.T.astype(np.float64)
    inside = np.flatnonzero(marked)
    owner, tones = labels.ravel()[inside], luma.ravel()[inside].astype(np.float64)
    tone = np.bincount(owner, tones, count) / area
    spread = np.sqrt(np.maximum(0, np.bincount(owner, tones**2, count) / area - tone**2))
    mean_contrast = np.bincount(owner, contrast.ravel()[inside], count) / area
    fill = area / (width * height)
    good = (
        (height >= _MIN_HEIGHT)
        & (height <= _MAX_HEIGHT)
        & (width <= _MAX_ASPECT * height)
        & (fill >= _FILL[0])
        & (fill <= _FILL[1])
        & (spread <= _EVEN * mean_contrast)
    )
    good[0] = False  # the background
    parts = [
        _Component(
            int(x0[i]), int(y0[i]), int(x0[i] + width[i]), int(y0[i] + height[i]), float(tone[i])
        )
        for i in np.flatnonzero(good)
    ]
    return parts, np.column_stack([centers.astype(np.float64), height])[1:]


def _find_lines(parts: list[_Component], spots: Points) -> list[list[_Component]]:
    """Chains components from left to right into lines, and drops chains that are not text.

    Args:
        parts: Components that may be letters.
        spots: Center and height [n, 3] of all high-contrast components.
    """
    done: list[list[_Component]] = []
    open_lines: list[list[_Component]] = []
    for part in sorted(parts):
        line = next((line for line in reversed(open_lines) if _continues(line, part)), None)
        if line is not None:
            line.append(part)
            continue
        near = [part.x0 - line[-1].x1 <= _REACH * line[-1].height for line in open_lines]
        done += [line for line, is_near in zip(open_lines, near, strict=True) if not is_near]
        open_lines = [*compress(open_lines, near), [part]]
    chains = [line for line in done + open_lines if len(line) >= _SHORT]
    lines = [line for line in chains if _is_text(line, spots)]
    long = [line for line in lines if len(line) >= _LETTERS]
    short = [line for line in lines if len(line) < _LETTERS]
    return long + [line for line in short if any(_are_adjacent(line, other) for other in long)]


def _continues(line: list[_Component], part: _Component) -> bool:
    """Returns true if a component matches the line's last letters in height, position and tone."""
    last, recent = line[-1], line[-_LETTERS:]
    if part.y0 >= last.y1 or part.y1 <= last.y0:
        return False
    tall = max(part.height, *(letter.height for letter in recent))
    low = min(part.height, *(letter.height for letter in recent))
    top, bottom = min(letter.y0 for letter in recent), max(letter.y1 for letter in recent)
    tone = sum(letter.tone for letter in recent) / len(recent)
    return (
        tall <= _UNLIKE * low
        and -0.2 * tall <= part.x0 - last.x1 <= _SPACE * tall
        and min(bottom, part.y1) - max(top, part.y0) >= _OVERLAP * low
        and max(bottom, part.y1) - min(top, part.y0) <= _BAND * tall
        and abs(part.tone - tone) <= _SAME_TONE
    )


def _is_text(line: list[_Component], spots: Points) -> bool:
    """Returns true if most letters share a baseline and few other components lie among them.

    Random texture fails the second condition.
    """
    height = _height(line)
    feet = np.array([part.y1 for part in line], np.float64)
    if (np.abs(feet - np.median(feet)) <= 0.12 * height + 1).mean() < _LEVEL:
        return False
    x0, y0, x1, y1 = _box(line)
    x, y, heights = spots.T
    inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1) & (heights >= _SPECK * height)
    return len(line) >= _ALONE * int(inside.sum())


def _are_adjacent(short: list[_Component], line: list[_Component]) -> bool:
    """Returns true if a short word lies above or below a line of similar tone and size."""
    x0, y0, x1, y1 = _box(short)
    left, top, right, bottom = _box(line)
    tall, low = sorted((_height(short), _height(line)), reverse=True)
    gap = max(top - y1, y0 - bottom)
    tone, line_tone = (float(np.mean([part.tone for part in group])) for group in (short, line))
    return (
        min(x1, right) > max(x0, left)
        and gap <= _LINE_GAP * tall
        and tall <= _UNLIKE * low
        and abs(tone - line_tone) <= _SAME_TONE
    )


def _height(line: list[_Component]) -> float:
    return float(np.median([part.height for part in line]))


def _box(line: list[_Component]) -> Box:
    x0, y0, x1, y1 = zip(*((part.x0, part.y0, part.x1, part.y1) for part in line), strict=True)
    return min(x0), min(y0), max(x1), max(y1)
