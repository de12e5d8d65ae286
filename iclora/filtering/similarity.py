"""Cosine similarity of frames, rounded before any comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iclora.filtering.phash import hash_distance
from schemas.filtering import SetParams
from schemas.frame import Frame

Rows = NDArray[np.float32]
"""Unit vectors [n, d]."""

Cosines = NDArray[np.float64]
"""Cosine similarities, rounded to four decimals."""

DECIMALS = 4


class DuplicateMatch(NamedTuple):
    """Measure by which two frames show the same image."""

    value: float
    threshold: float
    detail: str


class FrameSet(NamedTuple):
    """Frames of one source in order, with the data to compare them."""

    frames: tuple[Frame, ...]
    positions: tuple[int, ...]
    """Shot number of each frame, or its index for still images; gaps are counted in these units."""

    rows: Rows
    hashes: tuple[str, ...]

    def cosine(self, one: int, other: int) -> float:
        """Computes the similarity of two frames, rounded to four decimals."""
        return cosine(self.rows[one], self.rows[other])

    def within(self, one: int, other: int, max_gap: int) -> bool:
        """Returns true if no more than ``max_gap`` shots lie between two frames."""
        return abs(self.positions[other] - self.positions[one]) - 1 <= max_gap

    def duplicate(self, one: int, other: int, params: SetParams) -> DuplicateMatch | None:
        """Returns the measure by which two frames show the same image, or None."""
        distance = hash_distance(self.hashes[one], self.hashes[other])
        if distance <= params.max_hash_distance:
            return DuplicateMatch(
                float(distance), float(params.max_hash_distance), "hash bits apart"
            )
        value = self.cosine(one, other)
        if value > params.similarity.near_duplicate:
            return DuplicateMatch(value, params.similarity.near_duplicate, "cosine")
        return None

    def subset(self, keep: Sequence[int]) -> FrameSet:
        """Returns the frames at the given indices."""
        return FrameSet(
            tuple(self.frames[index] for index in keep),
            tuple(self.positions[index] for index in keep),
            self.rows[list(keep)],
            tuple(self.hashes[index] for index in keep),
        )


def make_frame_set(frames: Sequence[Frame], rows: Rows, hashes: dict[str, str]) -> FrameSet:
    """Combines a source's frames with their vectors and hashes.

    Args:
        frames: Frames in source order.
        rows: Unit vectors, float32 [n, d], one per frame.
        hashes: Mapping of frame ID to perceptual hash.
    """
    places = tuple(frame.shot if frame.shot >= 0 else index for index, frame in enumerate(frames))
    return FrameSet(tuple(frames), places, rows, tuple(hashes[frame.id] for frame in frames))


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Computes the similarity of two unit vectors, rounded to four decimals."""
    return round(float(np.dot(one.astype(np.float64), other.astype(np.float64))), DECIMALS)


def cosines(rows: Rows, others: Rows) -> Cosines:
    """Computes all similarities [n, m] of two groups of unit vectors, rounded to four decimals."""
    return np.round(rows.astype(np.float64) @ others.astype(np.float64).T, DECIMALS)


def neighbour_cosines(rows: Rows, step: int = 1) -> Cosines:
    """Computes similarities [n - step] of frames ``step`` apart, rounded to four decimals."""
    ahead, behind = rows[step:].astype(np.float64), rows[:-step].astype(np.float64)
    return np.round(np.einsum("nd,nd->n", ahead, behind), DECIMALS)
