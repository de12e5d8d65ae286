"""Letterbox and pillarbox: black at the borders in every picture of a source.

A row belongs to a bar if it is black in all pictures that are not black altogether; a night sky in
one shot is no bar, and a film whose shots have different bars keeps what any of them shows. Text
in a bar (subtitles) does not hide it: a fifth of a row may be bright.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film import Pixels
from schemas.base import Box

BLACK = 16
"""Luma (0 to 255) up to which a pixel counts as black; FFmpeg's cropdetect takes 24 of studio
range, which is 9 of full range, and compression noise adds a few steps."""

_BRIGHT_SHARE = 0.2
"""Share of a row that may be brighter (a row is bar if at least 80 % of it is black)."""

_MIN_LIT = 0.02
"""A picture with a smaller bright share is black altogether and tells nothing."""

_MIXED = 0.6
"""A line at a bar that is darker than this share of the lines inside counts as bar."""

_ACROSS, _DOWN = 1, 0
"""Sums along rows, one a row; sums along columns."""

_MAX_LOSS = 0.6
"""Bars that would take more than this share of a side are not believed."""


class LetterboxDetector:
    """Looks at pictures of one size and remembers which rows and columns were ever lit."""

    def __init__(self, width: int, height: int) -> None:
        self.seen = 0
        self._rows: NDArray[np.bool_] = np.zeros(height, np.bool_)
        self._columns: NDArray[np.bool_] = np.zeros(width, np.bool_)

        self._row_sums: NDArray[np.float64] = np.zeros(height)
        self._column_sums: NDArray[np.float64] = np.zeros(width)

    def add_frame(self, grey: Pixels) -> None:
        """Takes one picture's luma into account."""
        _, lit = cv2.threshold(grey, BLACK, 1, cv2.THRESH_BINARY)
        lit_rows = _means(lit, _ACROSS)
        if lit_rows.mean() < _MIN_LIT:
            return
        self.seen += 1
        self._row_sums += _means(grey, _ACROSS)
        self._column_sums += _means(grey, _DOWN)
        rows = lit_rows > _BRIGHT_SHARE
        self._rows |= rows
        if rows.any():
            shown = lit if rows.all() else lit[rows]
            self._columns |= _means(shown, _DOWN) > _BRIGHT_SHARE

    def picture_box(self) -> Box:
        """The picture without its bars; all of it if there are none."""
        y0, y1 = _lit_span(self._rows, self._row_sums)
        x0, x1 = _lit_span(self._columns, self._column_sums)
        return (x0, y0, x1, y1)


def _means(picture: cv2.typing.MatLike, axis: int) -> NDArray[np.float64]:
    """The mean of every row or column; OpenCV takes a fifth of numpy's time for bytes."""
    sums = cv2.reduce(picture, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(sums, np.float64).ravel() / picture.shape[axis]


def _lit_span(lit: NDArray[np.bool_], sums: NDArray[np.float64]) -> tuple[int, int]:
    places = np.flatnonzero(lit)
    if not len(places):
        return 0, len(lit)
    first, end = int(places[0]), int(places[-1]) + 1
    if end - first < (1 - _MAX_LOSS) * len(lit):
        return 0, len(lit)
    # Scaling mixes bar and picture in the line between them: more bar than picture is bar.
    if first and sums[first] < _MIXED * sums[min(first + 2, end - 1)]:
        first += 1
    if end < len(lit) and sums[end - 1] < _MIXED * sums[max(end - 3, first)]:
        end -= 1
    return first, end
