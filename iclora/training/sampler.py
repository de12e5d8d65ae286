"""Which samples a step sees, and from which seed it draws its noise.

Both are pure functions of (seed, step, sample key): nothing is remembered between steps, so a run
that was killed goes on as if it had not been, and a run on many processes sees what one would.
Rejected: a data loader with a saved position, which depends on worker and process counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple


class BatchSlot(NamedTuple):
    """One place in a batch."""

    key: str
    repeat: int
    """How often the key has come before in the same batch (0 unless the batch is larger than the
    dataset or spans two epochs)."""


def seed_of(*parts: object) -> int:
    """A 63-bit seed that depends on every part."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class BatchSampler:
    """An endless walk over the samples in which every epoch visits each of them once.

    Whatever its bucket, a sample is one of ``batch`` equal parts of each gradient that it is in:
    batches are drawn first and divided into equal shapes afterwards (the rule of AI-Toolkit,
    batches within a bucket, filled up by repetition, favours the samples of small buckets).
    """

    def __init__(self, keys: Sequence[str], seed: int) -> None:
        assert keys, "an order needs samples"
        self._keys = sorted(keys)
        self._seed = seed
        self._epoch = -1
        self._epoch_keys: list[str] = []

    def batch(self, step: int, size: int) -> list[BatchSlot]:
        """The samples of a step (counted from 0)."""
        keys = [self._at(position) for position in range(step * size, (step + 1) * size)]
        return [BatchSlot(key, keys[:place].count(key)) for place, key in enumerate(keys)]

    def _at(self, position: int) -> str:
        epoch, place = divmod(position, len(self._keys))
        if epoch != self._epoch:
            self._epoch = epoch
            self._epoch_keys = sorted(self._keys, key=lambda key: seed_of(self._seed, epoch, key))
        return self._epoch_keys[place]


def resolution_of(resolutions: Sequence[int], seed: int, step: int) -> int:
    """The resolution of a step; all its samples share it, so that they share shapes too."""
    return resolutions[seed_of(seed, "resolution", step) % len(resolutions)]
