"""Which frame of a shot is kept, and fetching it.

Sharpness is measured while the film is decoded for its cuts (the only full pass), because the
middle frame of a shot would often be blurred. Chosen frames that are not in memory any more when
their shot has ended are fetched by seeking: to hold all of a long shot would take gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film import FilmReader, Pixels, open_film
from iclora.ingest.shots import Timeline

SHARPNESS_SIDE = 512
"""Sharpness is compared at this longer side, as sifting measures it."""

UNMEASURED = -1.0


class Pick(NamedTuple):
    """A frame chosen from a shot."""

    shot: int
    number: int
    """In decoding order."""


def sharpness_of(grey: Pixels) -> float:
    """The variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) at 512 px."""
    height, width = grey.shape
    scale = SHARPNESS_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        # Averaging would be several times slower, and frames of one shot alias alike.
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    _, spread = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return float(spread[0, 0]) ** 2


def well_spaced(first: int, end: int, count: int) -> list[int]:
    """``count`` numbers in [first, end) in the middles of equal parts; fewer if it is short."""
    length = end - first
    middles = {first + (2 * part + 1) * length // (2 * count) for part in range(count)}
    return sorted(middles)


def pick_frames(
    shots: Sequence[tuple[int, int]], sharpness: NDArray[np.float64], candidates: int, per_shot: int
) -> list[Pick]:
    """Picks the sharpest of well-spaced candidates in each part of each shot.

    Args:
        shots: first frame and the frame after the last, of every shot.
        sharpness: one value a frame; ``UNMEASURED`` for frames that were not looked at.
        candidates: how many are compared for each picked frame.
        per_shot: frames picked from a shot, one from each of its equal parts.

    Returns:
        Picks in order; a shot without any measured frame has none.
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
    """Decodes the frames with these numbers, in order; seeks where that is shorter.

    A frame that a seek does not lead to (a broken index) is looked for by decoding from the
    start; one that cannot be found at all is left out.
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
    here = -1  # number of the frame decoded last
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
                here = -1  # past it: the next one is sought afresh
            break
        else:
            here = -1
