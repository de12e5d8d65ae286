"""Stateless batch sampling, seed derivation, and canvas sizes for training.

The samples and the noise seed of a step are pure functions of (seed, step, sample key), so neither
a resumption nor the number of processes changes the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from iclora.errors import BadInput
from schemas.base import Box


class BatchSlot(NamedTuple):
    """Sample slot in a batch."""

    key: str
    repeat: int
    """Number of earlier occurrences of the key in the batch; 0 unless the batch exceeds the dataset
    or spans two epochs."""


def seed_of(*parts: object) -> int:
    """Derives a 63-bit seed from all parts."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class BatchSampler:
    """Infinite sampler that visits each sample once per epoch, whatever its shape.

    The loader splits a batch by shape afterwards, so every sample contributes 1 / ``batch`` of the
    gradient. Batches drawn within a bucket would favor the samples of small buckets.
    """

    def __init__(self, keys: Sequence[str], seed: int) -> None:
        assert keys, "an order needs samples"
        self._keys = sorted(keys)
        self._seed = seed
        self._epoch = -1
        self._epoch_keys: list[str] = []

    def batch(self, step: int, size: int) -> list[BatchSlot]:
        """Returns the samples of a 0-based step."""
        keys: list[str] = []
        for position in range(step * size, (step + 1) * size):
            epoch, index = divmod(position, len(self._keys))
            if epoch != self._epoch:
                self._epoch = epoch
                self._epoch_keys = sorted(
                    self._keys, key=lambda key: seed_of(self._seed, epoch, key)
                )
            keys.append(self._epoch_keys[index])
        return [BatchSlot(key, keys[:slot].count(key)) for slot, key in enumerate(keys)]


def resolution_of(resolutions: Sequence[int], seed: int, step: int) -> int:
    """Selects the resolution of a step, which all its samples share so that shapes match."""
    return resolutions[seed_of(seed, "resolution", step) % len(resolutions)]


class CanvasFit(NamedTuple):
    """Canvas size for training, with the mapping from the original."""

    width: int
    height: int
    columns: tuple[tuple[int, int], ...]
    """Pairs (edge in the original, edge in the resized canvas) along x, from 0 to the width."""

    rows: tuple[tuple[int, int], ...]
    """Pairs (edge in the original, edge in the resized canvas) along y, from 0 to the height."""

    def box(self, box: Box) -> Box:
        """Maps a box from the original to the resized canvas, in pixels, rounding outward."""
        x0, y0, x1, y1 = box
        return (
            _mapped(x0, self.columns, up=False),
            _mapped(y0, self.rows, up=False),
            _mapped(x1, self.columns, up=True),
            _mapped(y1, self.rows, up=True),
        )


def fit_canvas(
    size: tuple[int, int], panels: Sequence[Box], *, resolution: int, step: int
) -> CanvasFit:
    """Computes the training size of a canvas, without cropping or enlarging it.

    Each panel is resized to a whole number of tokens, which distorts it by at most half a token.
    Scaling the whole canvas would put seams inside tokens.

    Args:
        size: width and height of the canvas, in pixels.
        panels: panel boxes on the canvas.
        resolution: square root of the target area, in pixels. Larger canvases shrink; smaller ones
            keep their size.
        step: side length of a token, in pixels. Panel sides become multiples of it.

    Raises:
        BadInput: a panel is smaller than one token.
    """
    width, height = size
    scale = min(1.0, resolution / (width * height) ** 0.5)
    columns = _edges(width, [(box[0], box[2]) for box in panels], scale, step)
    rows = _edges(height, [(box[1], box[3]) for box in panels], scale, step)
    return CanvasFit(columns[-1][1], rows[-1][1], columns, rows)


def _edges(
    length: int, spans: Sequence[tuple[int, int]], scale: float, step: int
) -> tuple[tuple[int, int], ...]:
    marks = sorted({0, length, *(edge for span in spans for edge in span)})
    edges = [(0, 0)]
    for start, end in pairwise(marks):
        tokens = min(round((end - start) * scale / step), (end - start) // step)
        covered = any(low <= start and end <= high for low, high in spans)
        if covered and tokens < 1:
            raise BadInput(f"a panel {end - start} px wide is smaller than a token ({step} px)")
        edges.append((end, edges[-1][1] + tokens * step))
    return tuple(edges)


def _mapped(value: int, edges: Sequence[tuple[int, int]], *, up: bool) -> int:
    """Interpolates a coordinate between the pairs of edges around it."""
    for (a, x), (b, y) in pairwise(edges):
        if a <= value <= b:
            exact = (value - a) * (y - x)
            return x + (-(-exact // (b - a)) if up else exact // (b - a))
    raise AssertionError(f"{value} is outside the canvas")
