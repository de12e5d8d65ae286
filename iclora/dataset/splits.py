"""Which samples train and which validate: whole films, so that nothing is learned by heart.

A unit (a source, or a scene where the split is by scene) goes to val when the digest of its
content, read as a share of all digests, is below ``val_share``: a decision about that unit alone,
so adding sources moves none of those that are there. Two exceptions keep both sides useful: with
two units or more val is never empty (the lowest unit goes there), and train never is (the highest
unit goes there). Both stop mattering, and moving units, as soon as one unit is on each side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from schemas.sample import Split
from schemas.sharding import SplitParams

_BITS = 64


def share_of(unit: str) -> float:
    """Where a unit's digest lies among all digests, in [0, 1)."""
    digest = hashlib.sha256(f"split {unit}".encode()).digest()
    return int.from_bytes(digest[: _BITS // 8]) / 2**_BITS


def assign_splits(units: Iterable[str], params: SplitParams) -> dict[str, Split]:
    """Divides units into train and val.

    Args:
        units: content digests of the sources that kept sets, or of their scenes.
        params: the share aimed at; 0 puts everything in train.

    Returns:
        Unit to split; all ``train`` if there are fewer than two units.
    """
    ranked = sorted(set(units), key=lambda unit: (share_of(unit), unit))
    if len(ranked) <= 1 or params.val_share == 0:
        return dict.fromkeys(ranked, "train")
    below = sum(share_of(unit) < params.val_share for unit in ranked)
    count = min(max(below, 1), len(ranked) - 1)
    return {unit: "val" if rank < count else "train" for rank, unit in enumerate(ranked)}


def unit_of(content: str, scene: int, params: SplitParams) -> str:
    """The unit that a set of a source with this content belongs to."""
    return content if params.by == "source" else f"{content}/{scene}"
