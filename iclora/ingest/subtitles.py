"""Burnt-in subtitles: lines of bright strokes low in the picture that come and go while it stays.

A sign in the scene comes and goes with the camera; a subtitle appears or vanishes between two
looks at a picture that is otherwise the same, so what differs between the looks is exactly its
strokes. Two such lines on one baseline prove that a film has subtitles; then every text that stood
still on that baseline counts as one, also where it came and went with a cut.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film import Pixels
from schemas.base import Box

Mask = NDArray[np.bool_]

_WIDTH = 640
"""Pictures are looked at at this width, at most."""

_BAND = 0.6
"""Subtitles lie below this share of the height."""

_BRIGHT, _RAISED = 130, 40
"""Grey levels: a stroke is at least this bright, and this much brighter than around or before."""

_CHANGED = 16
"""Grey levels from which a pixel has changed between two looks."""

_STIR = 0.2
"""Share of the picture that may have changed in a picture that stays."""

_LASTS = 0.7
"""Share of a text's strokes that are found again while it stands."""

_SAME_TEXT_OVERLAP = 0.5
"""Share of a text's strokes that must belong to one that stands, to be the same."""

_MIN_SAMPLES = 2
"""Looks for which a line stands, at least."""

_MIN_PROOF_LINES = 2
"""Lines on one baseline that came or went in a picture that stayed."""

_MIN_PROOF_WIDTH = 0.2
"""Of the width: a line that is to prove anything is at least so long."""

_BASELINE = 0.02
"""Of the height: baselines this close are one."""


_LOWEST, _HIGHEST = 0.02, 0.12
"""Height of a line or two, of the picture's."""

_MIN_ASPECT = 2.5
"""A line is at least this many times longer than high."""

_MAX_OFF_CENTER = 0.08
"""Its middle is this near the picture's, of the width."""

_SPARSE, _DENSE = 0.12, 0.75
"""Share of its box that is stroke."""

_EDGES = 1.5
"""Sides of strokes met along a line for every length of its height; letters give about two."""


class SubtitleLine(NamedTuple):
    """Text that stood still for a while."""

    first: int
    """Number of the frame in which it was first seen."""

    last: int
    box: Box
    """In pixels of the decoded frame."""

    clean: bool
    """It came or went while the picture stayed."""


class _Sample(NamedTuple):
    number: int
    band: Pixels
    rest: NDArray[np.int16]


class _TextTrack(NamedTuple):
    first: int
    last: int
    samples: int
    strokes: Mask
    clean: bool


class SubtitleDetector:
    """Looks at a film's frames a few times a second, in order."""

    def __init__(self) -> None:
        self._previous: _Sample | None = None
        self._tracks: list[_TextTrack] = []
        self._lines: list[SubtitleLine] = []
        self._size = (1, 1)
        self._small = (1, 1)

    def add_frame(self, number: int, grey: Pixels) -> None:
        """Takes one frame's luma into account."""
        now = self._make_sample(number, grey)
        before, self._previous = self._previous, now
        height = self._small[1]
        came = went = np.zeros(now.band.shape, np.bool_)
        if before is not None and _is_static(before, now):
            rise = now.band.astype(np.int16) - before.band
            came = text_strokes((rise >= _RAISED) & (now.band >= _BRIGHT), height)
            went = text_strokes((rise <= -_RAISED) & (before.band >= _BRIGHT), height)
        self._update_tracks(now, went)
        if came.any():
            self._tracks.append(_TextTrack(number, number, 1, came, clean=True))
        still = text_strokes(raised_strokes(now.band, height), height)
        if still.any() and not any(
            _overlap_share(still, text.strokes) > _SAME_TEXT_OVERLAP for text in self._tracks
        ):
            self._tracks.append(_TextTrack(number, number, 1, still, clean=False))

    def lines(self) -> tuple[SubtitleLine, ...]:
        """The subtitles; none if the text that was seen did not behave like subtitles."""
        for text in self._tracks:
            self._close_track(text)
        self._tracks = []
        near = max(2.0, _BASELINE * self._size[1])
        wide = _MIN_PROOF_WIDTH * self._size[0]
        clean = [ln for ln in self._lines if ln.clean and ln.box[2] - ln.box[0] >= wide]
        proven = [
            line.box[3]
            for line in clean
            # Two that end together are one, seen twice.
            if len({one.last for one in clean if abs(one.box[3] - line.box[3]) <= near})
            >= _MIN_PROOF_LINES
        ]
        ours = [ln for ln in self._lines if any(abs(ln.box[3] - b) <= near for b in proven)]
        top = min((line.box[1] for line in ours if line.clean), default=0)
        return tuple(line._replace(box=_below(line.box, top)) for line in ours)

    def _update_tracks(self, now: _Sample, went: Mask) -> None:
        """Takes texts along that still stand, and closes those that do not."""
        standing: list[_TextTrack] = []
        for text in self._tracks:
            if float((now.band[text.strokes] >= _BRIGHT).mean()) >= _LASTS:
                standing.append(text._replace(last=now.number, samples=text.samples + 1))
            else:
                gone = went.any() and _overlap_share(went, text.strokes) >= _LASTS
                strokes = went if gone else text.strokes  # what went is nothing but the text
                self._close_track(text._replace(clean=text.clean or bool(gone), strokes=strokes))
        self._tracks = standing

    def _close_track(self, text: _TextTrack) -> None:
        if text.samples < _MIN_SAMPLES:
            return
        ys, xs = np.nonzero(text.strokes)
        across, down = self._size[0] / self._small[0], self._size[1] / self._small[1]
        top = self._small[1] - text.strokes.shape[0]
        box = (
            int(xs.min() * across),
            int((ys.min() + top) * down),
            round((int(xs.max()) + 1) * across),
            round((int(ys.max()) + 1 + top) * down),
        )
        self._lines.append(SubtitleLine(text.first, text.last, box, text.clean))

    def _make_sample(self, number: int, grey: Pixels) -> _Sample:
        height, width = grey.shape
        scale = min(1.0, _WIDTH / width)
        small = (max(8, round(width * scale)), max(8, round(height * scale)))
        self._size, self._small = (width, height), small
        top = round(small[1] * _BAND)
        low = grey[round(top * height / small[1]) :]
        band = cv2.resize(low, (small[0], small[1] - top), interpolation=cv2.INTER_AREA)
        rest = cv2.resize(grey, (64, 36), interpolation=cv2.INTER_LINEAR).astype(np.int16)
        return _Sample(number, np.asarray(band, np.uint8), rest)


def _below(box: Box, top: int) -> Box:
    """A box without what lies above a row: bright things of the scene that touch a line."""
    return (box[0], max(box[1], top), box[2], box[3])


def _is_static(one: _Sample, other: _Sample) -> bool:
    """Whether two looks show the same picture, but for small things."""
    return float((np.abs(one.rest - other.rest) >= _CHANGED).mean()) <= _STIR


def raised_strokes(band: Pixels, height: int) -> Mask:
    """Bright strokes that are thinner than a letter is high."""
    letter = max(5, height // 24) | 1
    raised = cv2.morphologyEx(band, cv2.MORPH_TOPHAT, np.ones((letter, letter), np.uint8))
    return (raised >= _RAISED) & (band >= _BRIGHT)


def text_strokes(mask: Mask, height: int) -> Mask:
    """Those strokes of a mask that make up lines of text.

    Args:
        mask: strokes in the lower part of a picture.
        height: of the whole picture, in pixels; sizes of letters follow from it.
    """
    letter = max(5, height // 24) | 1
    if mask.sum() < letter * letter:
        return np.zeros(mask.shape, np.bool_)
    strokes = mask.astype(np.uint8)
    joined = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, np.ones((1, 2 * letter + 1), np.uint8))
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((2, letter), np.uint8))
    # Lines are long, so their labels are few: short ones take half the time.
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined, ltype=cv2.CV_16U)
    text = np.zeros(mask.shape, np.bool_)
    for label, (x, y, w, h, _) in enumerate(stats):
        middle = (x + w / 2) / mask.shape[1]
        if label and _is_line(strokes[y : y + h, x : x + w], middle, height):
            text |= (labels == label) & mask
    return text


def _is_line(strokes: NDArray[np.uint8], middle: float, height: int) -> bool:
    """Whether strokes are as high, long, dense and centred as a line of a subtitle."""
    high, long = strokes.shape
    if not _LOWEST * height <= high <= _HIGHEST * height or long < _MIN_ASPECT * high:
        return False
    edges = np.abs(np.diff(strokes.astype(np.int8), axis=1)).sum(axis=1)
    return (
        abs(middle - 0.5) < _MAX_OFF_CENTER
        and _SPARSE < strokes.mean() < _DENSE
        and float(np.median(edges)) >= _EDGES * long / high
    )


def _overlap_share(one: Mask, other: Mask) -> float:
    """The share of the strokes of one that are strokes, or next to strokes, of the other."""
    count = int(one.sum())
    if not count:
        return 0.0
    near = cv2.dilate(other.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return float((one & near).sum()) / count
