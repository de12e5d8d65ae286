"""Stateless batch sampling and seed derivation.

The samples and the noise seed of a step are pure functions of (seed, step, sample key). A resumed
run therefore matches an uninterrupted one, and the result does not depend on the number of
processes. A data loader with a saved position would depend on worker and process counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple


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
    """Infinite sampler that visits each sample once per epoch.

    Batches are drawn first and then split by shape, so every sample contributes 1 / ``batch`` of
    the gradient regardless of its bucket. AI-Toolkit draws batches within a bucket and pads them by
    repetition, which favors samples in small buckets.
    """

    def __init__(self, keys: Sequence[str], seed: int) -> None:
        assert keys, "an order needs samples"
        self._keys = sorted(keys)
        self._seed = seed
        self._epoch = -1
        self._epoch_keys: list[str] = []

    def batch(self, step: int, size: int) -> list[BatchSlot]:
        """Returns the samples of a 0-based step."""
        keys = [self._at(position) for position in range(step * size, (step + 1) * size)]
        return [BatchSlot(key, keys[:place].count(key)) for place, key in enumerate(keys)]

    def _at(self, position: int) -> str:
        epoch, place = divmod(position, len(self._keys))
        if epoch != self._epoch:
            self._epoch = epoch
            self._epoch_keys = sorted(self._keys, key=lambda key: seed_of(self._seed, epoch, key))
        return self._epoch_keys[place]


def resolution_of(resolutions: Sequence[int], seed: int, step: int) -> int:
    """Selects the resolution of a step, which all its samples share so that shapes match."""
    return resolutions[seed_of(seed, "resolution", step) % len(resolutions)]
