"""Detection of burned-in subtitles: bright text low in the picture that changes on a static scene.

A sign in the scene moves with the camera. A subtitle appears or disappears between two samples of
an otherwise unchanged picture, so the difference consists of exactly its strokes. Two such lines on
one baseline prove that a film has subtitles. From then on every static text on that baseline counts
as a subtitle, including text that changes at a cut.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film_decoder import Pixels
from schemas.base import Box

Mask = NDArray[np.bool_]

_WIDTH = 640
"""Maximum width in pixels of the analyzed picture."""

_BAND = 0.6
"""Top of the subtitle band, as a fraction of the height."""

_BRIGHT, _RAISED = 130, 40
"""Minimum gray level of a stroke, and minimum difference to its surroundings or the sample
before."""

_CHANGED = 16
"""Minimum gray level difference of a changed pixel between two samples."""

_STIR = 0.2
"""Maximum changed fraction of a static picture."""

_LASTS = 0.7
"""Minimum fraction of strokes that must persist for a text to persist."""

_SAME_TEXT_OVERLAP = 0.5
"""Fraction of strokes shared with a tracked text above which two texts are the same."""

_MIN_SAMPLES = 2
"""Minimum number of samples in which a line is visible."""

_MIN_PROOF_LINES = 2
"""Minimum number of lines on one baseline that appeared or disappeared on a static picture."""

_MIN_PROOF_WIDTH = 0.2
"""Minimum length of a line that counts as proof, as a fraction of the width."""

_BASELINE = 0.02
"""Maximum distance between equal baselines, as a fraction of the height."""

_LOWEST, _HIGHEST = 0.02, 0.12
"""Minimum and maximum height of one or two lines, as a fraction of the picture height."""

_MIN_ASPECT = 2.5
"""Minimum ratio of the length of a line to its height."""

_MAX_OFF_CENTER = 0.08
"""Maximum distance of a line from the horizontal center, as a fraction of the width."""

_SPARSE, _DENSE = 0.12, 0.75
"""Minimum and maximum stroke coverage of a line's box."""

_EDGES = 1.5
"""Minimum number of stroke edges per line height along a line; letters have about two."""


class SubtitleLine(NamedTuple):
    """A text that stayed in place for several samples."""

    first: int
    """Number of the first frame with the text."""

    last: int
    box: Box
    """Box in pixels of the decoded frame."""

    clean: bool
    """True if the text appeared or disappeared on a static picture."""


class _SampledFrame(NamedTuple):
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
    """A tracker of static text over samples of a film, taken a few times per second in order."""

    def __init__(self) -> None:
        self._previous: _SampledFrame | None = None
        self._tracks: list[_TextTrack] = []
        self._lines: list[SubtitleLine] = []
        self._size = (1, 1)
        self._small = (1, 1)

    def add_frame(self, number: int, grey: Pixels) -> None:
        """Adds the luma of one frame."""
        now = self._make_sample(number, grey)
        before, self._previous = self._previous, now
        height = self._small[1]
        came = went = np.zeros(now.band.shape, np.bool_)
        if before and (np.abs(before.rest - now.rest) >= _CHANGED).mean() <= _STIR:  # static
            rise = now.band.astype(np.int16) - before.band
            came = text_strokes((rise >= _RAISED) & (now.band >= _BRIGHT), height)
            went = text_strokes((rise <= -_RAISED) & (before.band >= _BRIGHT), height)
        self._update_tracks(now, went)
        if came.any():
            self._tracks.append(_TextTrack(number, number, 1, came, clean=True))
        # Find bright strokes thinner than the height of a letter.
        letter = max(5, height // 24) | 1
        raised = cv2.morphologyEx(now.band, cv2.MORPH_TOPHAT, np.ones((letter, letter), np.uint8))
        still = text_strokes((raised >= _RAISED) & (now.band >= _BRIGHT), height)
        if still.any() and not any(
            _overlap_share(still, text.strokes) > _SAME_TEXT_OVERLAP for text in self._tracks
        ):
            self._tracks.append(_TextTrack(number, number, 1, still, clean=False))

    def lines(self) -> tuple[SubtitleLine, ...]:
        """Returns the subtitles; empty if the tracked text does not behave like subtitles."""
        for text in self._tracks:
            self._close_track(text)
        self._tracks = []
        near = max(2.0, _BASELINE * self._size[1])
        wide = _MIN_PROOF_WIDTH * self._size[0]
        clean = [ln for ln in self._lines if ln.clean and ln.box[2] - ln.box[0] >= wide]
        proven = [
            line.box[3]
            for line in clean
            # Two lines that end together are one line, detected twice.
            if len({other.last for other in clean if abs(other.box[3] - line.box[3]) <= near})
            >= _MIN_PROOF_LINES
        ]
        ours = [ln for ln in self._lines if any(abs(ln.box[3] - b) <= near for b in proven)]
        top = min((line.box[1] for line in ours if line.clean), default=0)
        # Clip boxes above the highest clean line, where bright scene content may touch a line.
        return tuple(
            line._replace(box=(line.box[0], max(line.box[1], top), line.box[2], line.box[3]))
            for line in ours
        )

    def _update_tracks(self, now: _SampledFrame, went: Mask) -> None:
        """Extends the tracks of visible texts and closes the others."""
        standing: list[_TextTrack] = []
        for text in self._tracks:
            if float((now.band[text.strokes] >= _BRIGHT).mean()) >= _LASTS:
                standing.append(text._replace(last=now.number, samples=text.samples + 1))
            else:
                gone = went.any() and _overlap_share(went, text.strokes) >= _LASTS
                strokes = went if gone else text.strokes  # the difference is exactly the text
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

    def _make_sample(self, number: int, grey: Pixels) -> _SampledFrame:
        height, width = grey.shape
        scale = min(1.0, _WIDTH / width)
        small = (max(8, round(width * scale)), max(8, round(height * scale)))
        self._size, self._small = (width, height), small
        top = round(small[1] * _BAND)
        low = grey[round(top * height / small[1]) :]
        band = cv2.resize(low, (small[0], small[1] - top), interpolation=cv2.INTER_AREA)
        rest = cv2.resize(grey, (64, 36), interpolation=cv2.INTER_LINEAR).astype(np.int16)
        return _SampledFrame(number, np.asarray(band, np.uint8), rest)


def text_strokes(mask: Mask, height: int) -> Mask:
    """Filters a mask to strokes that form lines of text.

    Args:
        mask: Strokes in the lower part of a picture.
        height: Height of the whole picture in pixels, from which letter sizes follow.
    """
    letter = max(5, height // 24) | 1
    if mask.sum() < letter * letter:
        return np.zeros(mask.shape, np.bool_)
    strokes = mask.astype(np.uint8)
    joined = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, np.ones((1, 2 * letter + 1), np.uint8))
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((2, letter), np.uint8))
    # Lines are long and few, so 16-bit labels suffice and take half the time.
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined, ltype=cv2.CV_16U)
    text = np.zeros(mask.shape, np.bool_)
    for label, (x, y, w, h, _) in enumerate(stats):
        middle = (x + w / 2) / mask.shape[1]
        if label and _is_line(strokes[y : y + h, x : x + w], middle, height):
            text |= (labels == label) & mask
    return text


def _is_line(strokes: NDArray[np.uint8], middle: float, height: int) -> bool:
    """Returns True if strokes match a subtitle line in height, length, density and centering."""
    high, long = strokes.shape
    if not _LOWEST * height <= high <= _HIGHEST * height or long < _MIN_ASPECT * high:
        return False
    edges = np.abs(np.diff(strokes.astype(np.int8), axis=1)).sum(axis=1)
    return (
        abs(middle - 0.5) < _MAX_OFF_CENTER
        and _SPARSE < strokes.mean() < _DENSE
        and float(np.median(edges)) >= _EDGES * long / high
    )


def _overlap_share(mask: Mask, other: Mask) -> float:
    """Computes the fraction of strokes in one mask within a pixel of strokes in the other."""
    count = int(mask.sum())
    if not count:
        return 0.0
    near = cv2.dilate(other.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return float((mask & near).sum()) / count
