"""Frame selection per shot: the sharpest frames, kept from the decoding pass or fetched by seeking.

A seek decodes again from the previous key frame; on films with long GOPs, seeking every selected
frame decodes half as many frames as the film has. The selection is known only at the end of a shot,
so candidates are buffered until then. If a shot exceeds the buffer, its earliest candidates are
dropped and fetched by seeking. Both paths produce identical pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film_decoder import FilmReader, Pixels, open_film
from iclora.ingest.shots import Timeline
from schemas.ingest import IngestParams

SHARPNESS_SIDE = 512
"""Longer side in pixels for measuring sharpness; sifting uses the same."""

UNMEASURED = -1.0


BUFFER_BYTES = 192 << 20
"""Maximum buffer size in bytes: five seconds of 1920 x 1080 if every other frame is a candidate."""

OnKept = Callable[[int, av.VideoFrame], None]
"""Callback for a frame that a shot keeps, called with the frame number and the frame."""


class Pick(NamedTuple):
    """A frame selected from a shot."""

    shot: int
    number: int
    """Frame number in decoding order."""


def sharpness_of(grey: Pixels) -> float:
    """Computes the variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) at 512 px."""
    height, width = grey.shape
    scale = SHARPNESS_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        # Area averaging is several times slower, and frames of one shot alias alike.
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    _, spread = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return float(spread[0, 0]) ** 2


def well_spaced(first: int, end: int, count: int) -> list[int]:
    """Returns the midpoints of ``count`` equal parts of [first, end); fewer if it is short."""
    length = end - first
    middles = {first + (2 * part + 1) * length // (2 * count) for part in range(count)}
    return sorted(middles)


def pick_frames(
    shots: Sequence[tuple[int, int]], sharpness: NDArray[np.float64], candidates: int, per_shot: int
) -> list[Pick]:
    """Picks the sharpest of well-spaced candidates in each part of each shot.

    Args:
        shots: First frame and end frame (exclusive) per shot.
        sharpness: One value per frame; ``UNMEASURED`` for frames without a measurement.
        candidates: Number of candidates compared per pick.
        per_shot: Maximum number of picks per shot, one from each of its equal parts.

    Returns:
        Picks in order; none for a shot without measured frames.
    """
    measured = np.flatnonzero(sharpness >= 0)
    picks: list[Pick] = []
    for shot, (first, end) in enumerate(shots):
        inside = measured[(measured >= first) & (measured < end)]
        numbers: set[int] = set()
        for part in np.array_split(inside, min(per_shot, max(1, len(inside)))):
            if len(part):
                spaced = [int(part[i]) for i in well_spaced(0, len(part), candidates)]
                numbers.add(max(spaced, key=lambda n: (sharpness[n], -n)))
        picks += [Pick(shot, number) for number in sorted(numbers)]
    return picks


class FrameBuffer:
    """A byte-limited buffer of candidate frames that emits the selected ones per shot.

    Args:
        params: Ingest parameters; uses the number of frames per shot and of candidates.
        on_kept: Callback for selected frames.
        max_bytes: Maximum size in bytes.
    """

    def __init__(self, params: IngestParams, on_kept: OnKept, max_bytes: int) -> None:
        self._params, self._on_kept, self._max_bytes = params, on_kept, max_bytes
        self._frames: deque[tuple[int, av.VideoFrame, int]] = deque()
        self._bytes = 0
        self._first = 0

    def add(self, number: int, frame: av.VideoFrame) -> None:
        """Appends a frame; drops the oldest frames above the size limit."""
        size = sum(plane.buffer_size for plane in frame.planes)
        self._frames.append((number, frame, size))
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._bytes -= self._frames.popleft()[2]

    def flush_shot(self, end: int, sharpness: Sequence[float]) -> None:
        """Emits the buffered frames that the shot before ``end`` keeps and drops its others.

        Args:
            end: Number of the first frame after the shot.
            sharpness: Sharpness of every frame so far.
        """
        first, self._first = self._first, max(self._first, end)
        shot = np.array(sharpness[first:end], np.float64)
        picks = pick_frames(
            [(0, len(shot))], shot, self._params.candidates_per_shot, self._params.frames_per_shot
        )
        picked = {first + pick.number for pick in picks}
        while self._frames and self._frames[0][0] < end:
            number, frame, size = self._frames.popleft()
            self._bytes -= size
            if number in picked:
                self._on_kept(number, frame)


def decode_frames(
    path: Path, timeline: Timeline, numbers: Sequence[int], max_pixels: int
) -> Iterator[tuple[int, FilmReader, av.VideoFrame]]:
    """Decodes the frames with the given numbers, in order; seeks where that is faster.

    If a seek misses a frame (broken index), decoding restarts from the beginning. Frames that
    cannot be found are omitted.
    """
    missing = sorted(numbers)
    if missing and timeline.has_timestamps:
        with open_film(path, max_pixels) as film:
            for number, frame in _seek_frames(film, timeline, sorted(numbers)):
                missing.remove(number)
                yield number, film, frame
    if missing:
        with open_film(path, max_pixels) as film:
            for number, frame in enumerate(film.frames()):
                if number in missing:
                    yield number, film, frame
                if number >= missing[-1]:
                    return


def _seek_frames(
    film: FilmReader, timeline: Timeline, numbers: Sequence[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    keys = np.flatnonzero(timeline.keys)
    last = -1  # number of the last decoded frame
    frames = film.frames()
    for number in numbers:
        stamp = int(timeline.timestamps[number])
        before = keys[keys <= number]
        if last < 0 or (len(before) and before[-1] > last + 1):
            film.container.seek(stamp, stream=film.stream)
            frames = film.frames()
        for frame in frames:
            if frame.pts is None or frame.pts < stamp:
                continue
            if frame.pts == stamp:
                yield number, frame
                last = number
            else:
                last = -1  # overshot: seek again for the next frame
            break
        else:
            last = -1
