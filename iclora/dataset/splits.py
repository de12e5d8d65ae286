"""Train/val split by whole films, to prevent leakage between splits.

A unit (a source, or a scene if the split is by scene) goes to val if the digest of its content, as
a fraction of all digests, is below ``val_share``. The decision depends on that unit alone, so new
sources move no existing ones. Two exceptions keep both splits non-empty: with two units or more,
the lowest unit goes to an otherwise empty val, and the highest unit to an otherwise empty train.
Neither applies once each split has a unit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from schemas.sample import Split
from schemas.sharding import SplitParams

_BITS = 64


def share_of(unit: str) -> float:
    """Maps a unit's digest to [0, 1)."""
    digest = hashlib.sha256(f"split {unit}".encode()).digest()
    return int.from_bytes(digest[: _BITS // 8]) / 2**_BITS


def assign_splits(units: Iterable[str], params: SplitParams) -> dict[str, Split]:
    """Divides units into train and val.

    Args:
        units: content digests of the sources that kept sets, or of their scenes.
        params: target share; 0 puts everything in train.

    Returns:
        Split by unit; all ``train`` if there are fewer than two units.
    """
    ranked = sorted(set(units), key=lambda unit: (share_of(unit), unit))
    if len(ranked) <= 1 or params.val_share == 0:
        return dict.fromkeys(ranked, "train")
    below = sum(share_of(unit) < params.val_share for unit in ranked)
    count = min(max(below, 1), len(ranked) - 1)
    return {unit: "val" if rank < count else "train" for rank, unit in enumerate(ranked)}


def unit_of(content: str, scene: int, params: SplitParams) -> str:
    """Returns the unit of a set from a source with this content."""
    return content if params.by == "source" else f"{content}/{scene}"
