"""Frame selection per shot, and decoding of the selected frames.

The middle frame of a shot is often blurred, so frames are selected by sharpness, measured during
the only full decoding pass. Buffering a long shot would take gigabytes, so selected frames that are
no longer in memory at the end of their shot are fetched by seeking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film_decoder import FilmReader, Pixels, open_film
from iclora.ingest.shots import Timeline

SHARPNESS_SIDE = 512
"""Longer side in pixels for measuring sharpness; sifting uses the same."""

UNMEASURED = -1.0


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
            places = well_spaced(0, len(part), candidates) if len(part) else []
            if places:
                numbers.add(max((int(part[i]) for i in places), key=lambda n: (sharpness[n], -n)))
        picks += [Pick(shot, number) for number in sorted(numbers)]
    return picks


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
            found: set[int] = set()
            for number, frame in _seek_frames(film, timeline, missing):
                found.add(number)
                yield number, film, frame
        missing = [number for number in missing if number not in found]
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
    here = -1  # number of the last decoded frame
    frames = film.frames()
    for number in numbers:
        stamp = int(timeline.timestamps[number])
        before = keys[keys <= number]
        if here < 0 or (len(before) and before[-1] > here + 1):
            film.container.seek(stamp, stream=film.stream)
            frames = film.frames()
        for frame in frames:
            if frame.pts is None or frame.pts < stamp:
                continue
            if frame.pts == stamp:
                yield number, frame
                here = number
            else:
                here = -1  # overshot: seek again for the next frame
            break
        else:
            here = -1
