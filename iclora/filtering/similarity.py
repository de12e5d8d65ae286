"""Similarity of frames: cosines of their embeddings, and bits of their perceptual hashes.

The 64-bit perceptual hash holds the signs of an image's low frequencies. The luma is averaged down
to 32 x 32. The 8 x 8 lowest frequencies of its 2-D discrete cosine transform, without the
constant's row and column, are compared with their median (Zauner, "Implementation and Benchmarking
of Perceptual Image Hash Functions", 2010, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.filtering import SetParams
from schemas.frame import Frame

Rows = NDArray[np.float32]
"""Unit vectors [n, d]."""

Cosines = NDArray[np.float64]
"""Cosine similarities, rounded to four decimals."""

DECIMALS = 4
"""Decimals to which similarities are rounded before any comparison."""

_HASH_SIDE, _HASH_LOW = 32, 8


class FrameSet(NamedTuple):
    """Frames of one source in order, with the data to compare them."""

    frames: tuple[Frame, ...]
    positions: tuple[int, ...]
    """Shot number of each frame, or its index for still images; gaps are counted in these units."""

    rows: Rows
    hashes: tuple[str, ...]

    def cosine(self, first: int, second: int) -> float:
        """Computes the similarity of two frames, rounded to four decimals."""
        return cosine(self.rows[first], self.rows[second])

    def within(self, first: int, second: int, max_gap: int) -> bool:
        """Returns true if no more than ``max_gap`` shots lie between two frames."""
        return abs(self.positions[second] - self.positions[first]) - 1 <= max_gap

    def duplicate(
        self, first: int, second: int, params: SetParams
    ) -> tuple[float, float, str] | None:
        """Returns the value, threshold and measure by which two frames show the same image."""
        distance = hash_distance(self.hashes[first], self.hashes[second])
        if distance <= params.max_hash_distance:
            return float(distance), float(params.max_hash_distance), "hash bits apart"
        similarity, ceiling = self.cosine(first, second), params.similarity.near_duplicate
        return (similarity, ceiling, "cosine") if similarity > ceiling else None

    def subset(self, keep: Sequence[int]) -> FrameSet:
        """Returns the frames at the given indices."""
        return FrameSet(
            tuple(self.frames[index] for index in keep),
            tuple(self.positions[index] for index in keep),
            self.rows[list(keep)],
            tuple(self.hashes[index] for index in keep),
        )


def make_frame_set(frames: Sequence[Frame], rows: Rows, hashes: Mapping[str, str]) -> FrameSet:
    """Combines a source's frames with their vectors and hashes.

    Args:
        frames: Frames in source order.
        rows: Unit vectors, float32 [n, d], one per frame.
        hashes: Mapping of frame ID to perceptual hash.
    """
    positions = tuple(
        frame.shot if frame.shot >= 0 else index for index, frame in enumerate(frames)
    )
    return FrameSet(tuple(frames), positions, rows, tuple(hashes[frame.id] for frame in frames))


def cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Computes the similarity of two unit vectors, rounded to four decimals."""
    return round(float(np.dot(first.astype(np.float64), second.astype(np.float64))), DECIMALS)


def cosines(rows: Rows, others: Rows) -> Cosines:
    """Computes all similarities [n, m] of two groups of unit vectors, rounded to four decimals."""
    return np.round(rows.astype(np.float64) @ others.astype(np.float64).T, DECIMALS)


def neighbor_cosines(rows: Rows, step: int = 1) -> Cosines:
    """Computes similarities [n - step] of frames ``step`` apart, rounded to four decimals."""
    ahead, behind = rows[step:].astype(np.float64), rows[:-step].astype(np.float64)
    return np.round(np.einsum("nd,nd->n", ahead, behind), DECIMALS)


def perceptual_hash(luma: NDArray[np.uint8]) -> str:
    """Computes the hash of an image's luma [height, width], as 16 hex digits."""
    size = (_HASH_SIDE, _HASH_SIDE)
    small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[1 : _HASH_LOW + 1, 1 : _HASH_LOW + 1]
    # Round to integers: the frequencies of a flat image are rounding noise around zero.
    steps = np.rint(low).astype(np.int64)
    bits = (steps > np.median(steps)).ravel()
    return np.packbits(bits).tobytes().hex()


def hash_distance(first: str, second: str) -> int:
    """Returns the number of differing bits of two hashes, 0 to 64."""
    return (int(first, 16) ^ int(second, 16)).bit_count()
