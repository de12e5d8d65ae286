"""Selection across the dataset: removes duplicate sets and picks the N best diverse ones.

The result does not depend on source order, because selection starts from the sets sorted by merit
and key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iclora.filtering.dedup import find_duplicates
from iclora.filtering.similarity import DECIMALS, Rows
from schemas.filtering import FilterParams
from schemas.frame import ImageSet
from schemas.verdict import Verdict


class ScoredSet(NamedTuple):
    """Candidate set with its vectors and quality."""

    set: ImageSet
    rows: Rows
    """Unit vectors [panels, d] of the set's frames."""

    quality: float
    """Quality of the set, 0 to 1."""


class Selection(NamedTuple):
    """Chosen sets and the verdicts on all sets of a dataset."""

    kept: tuple[ImageSet, ...]
    verdicts: tuple[Verdict, ...]


def choose(entries: Sequence[ScoredSet], params: FilterParams) -> Selection:
    """Chooses the sets to keep.

    Args:
        entries: All formed sets of the build; entries with equal keys are one set.
        params: Provides ``max_set_similarity`` and ``max_sets``.
    """
    unique = {entry.set.key: entry for entry in sorted(entries, key=_best_first, reverse=True)}
    ordered = sorted(unique.values(), key=_best_first)
    distinct, verdicts = drop_duplicates(ordered, params.max_set_similarity)
    chosen, too_many = select_diverse(distinct, params.max_sets or len(distinct))
    verdicts |= too_many
    verdicts |= {entry.set.key: _verdict(entry) for entry in chosen}
    return Selection(
        tuple(sorted((entry.set for entry in chosen), key=_source_order)),
        tuple(verdicts[key] for key in sorted(verdicts)),
    )


def _best_first(entry: ScoredSet) -> tuple[float, str]:
    return -entry.quality, entry.set.key


def _source_order(one: ImageSet) -> tuple[str, int, int, float, str]:
    first = one.frames[0]
    return one.source, one.scene, first.shot, first.time, one.key


def drop_duplicates(
    ordered: Sequence[ScoredSet], ceiling: float
) -> tuple[list[ScoredSet], dict[str, Verdict]]:
    """Keeps the first set of each group of duplicates, in the given order."""
    duplicates = find_duplicates([entry.rows for entry in ordered], ceiling)
    verdicts = {
        ordered[duplicate.position].set.key: _verdict(
            ordered[duplicate.position],
            "same_set",
            duplicate.similarity,
            ceiling,
            f"as {ordered[duplicate.duplicate_of].set.key}",
        )
        for duplicate in duplicates
    }
    return [entry for entry in ordered if entry.set.key not in verdicts], verdicts


def select_diverse(
    distinct: Sequence[ScoredSet], target: int
) -> tuple[list[ScoredSet], dict[str, Verdict]]:
    """Selects the best sets that are most dissimilar.

    Greedy farthest-point selection (Gonzalez, "Clustering to minimize the maximum intercluster
    distance", 1985), weighted by merit. After the best set, each step takes the set with the
    largest merit x (1 - highest similarity to the chosen sets), where similarity is the cosine of
    the mean vectors.

    Args:
        distinct: Sets without duplicates, best first.
        target: Number of sets to keep.
    """
    if len(distinct) <= target:
        return list(distinct), {}
    means = np.stack([_mean(entry.rows) for entry in distinct])
    qualities = np.array([entry.quality for entry in distinct])
    nearest = np.full(len(distinct), -1.0)
    free = np.ones(len(distinct), np.bool_)
    bar = 0.0
    for _ in range(target):
        gains = np.where(free, np.round(qualities * (1 - nearest), DECIMALS), -1.0)
        best = int(gains.argmax())
        bar, free[best] = float(gains[best]), False
        nearest = np.maximum(nearest, np.round(means @ means[best], DECIMALS))
    gains = np.round(qualities * (1 - nearest), DECIMALS)
    rejected = {
        entry.set.key: _verdict(entry, "over_target", float(gain), bar, "merit x unlikeness")
        for entry, gain, left in zip(distinct, gains, free, strict=True)
        if left
    }
    return [entry for entry, left in zip(distinct, free, strict=True) if not left], rejected


def _mean(rows: Rows) -> NDArray[np.float64]:
    mean = rows.astype(np.float64).mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def _verdict(
    entry: ScoredSet,
    reason: str = "",
    value: float = -1.0,
    threshold: float = -1.0,
    detail: str = "",
) -> Verdict:
    return Verdict(
        stage="choose",
        id=entry.set.key,
        outcome="rejected" if reason else "kept",
        reason=reason,
        detail=detail,
        value=value,
        threshold=threshold,
        source=entry.set.source,
    )
