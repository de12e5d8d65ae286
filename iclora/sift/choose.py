"""Across the whole dataset: the same set once, and the N best that are most unlike each other.

The result depends on the sets alone, not on the order in which their sources came: everything
starts from the sets sorted by merit and key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iclora.sift.similarity import DECIMALS, Rows
from schemas.frame import ImageSet
from schemas.sift import SiftParams
from schemas.verdict import Verdict


class Entry(NamedTuple):
    """A set that may be chosen."""

    set: ImageSet
    rows: Rows
    """Unit vectors of its frames [panels, d]."""

    merit: float
    """0-1."""


class Outcome(NamedTuple):
    """What was decided about the sets of a dataset."""

    kept: tuple[ImageSet, ...]
    verdicts: tuple[Verdict, ...]


def choose(entries: Sequence[Entry], params: SiftParams) -> Outcome:
    """Chooses the sets that go on.

    Args:
        entries: every formed set of the build; equal keys are one set.
        params: ``max_set_similarity`` and ``max_sets``.
    """
    unique = {entry.set.key: entry for entry in sorted(entries, key=_best_first, reverse=True)}
    ordered = sorted(unique.values(), key=_best_first)
    distinct, verdicts = drop_twins(ordered, params.max_set_similarity)
    chosen, too_many = spread(distinct, params.max_sets or len(distinct))
    verdicts |= too_many
    verdicts |= {entry.set.key: _verdict(entry) for entry in chosen}
    return Outcome(
        tuple(sorted((entry.set for entry in chosen), key=_in_story_order)),
        tuple(verdicts[key] for key in sorted(verdicts)),
    )


def _best_first(entry: Entry) -> tuple[float, str]:
    return -entry.merit, entry.set.key


def _in_story_order(one: ImageSet) -> tuple[str, int, int, float, str]:
    first = one.frames[0]
    return one.source, one.scene, first.shot, first.time, one.key


def drop_twins(ordered: Sequence[Entry], ceiling: float) -> tuple[list[Entry], dict[str, Verdict]]:
    """Keeps the first of sets that show the same, in the order given."""
    kept: list[Entry] = []
    shelf = _Shelf(ordered)
    verdicts: dict[str, Verdict] = {}
    for entry in ordered:
        values = shelf.likeness(entry.rows)
        value = float(values.max()) if kept else -1.0
        if value > ceiling:
            twin = kept[int(values.argmax())].set.key
            verdicts[entry.set.key] = _verdict(entry, "same_set", value, ceiling, f"as {twin}")
        else:
            kept.append(entry)
            shelf.add(entry.rows)
    return kept, verdicts


class _Shelf:
    """The vectors of the sets kept so far, one set after the other."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        width = entries[0].rows.shape[1] if entries else 0
        self._rows = np.empty((sum(len(entry.rows) for entry in entries), width), np.float32)
        self._starts: list[int] = []
        self._used = 0

    def add(self, rows: Rows) -> None:
        self._starts.append(self._used)
        self._rows[self._used : self._used + len(rows)] = rows
        self._used += len(rows)

    def likeness(self, rows: Rows) -> NDArray[np.float64]:
        """How much each set on the shelf shows the same pictures: its least matched panel.

        For each panel of either set its best match in the other is taken, and the worst of those
        (the Hausdorff distance, in cosines): 1.0 means the same pictures in any order.
        """
        if not self._starts:
            return np.empty(0)
        table = rows @ self._rows[: self._used].T
        one_way = np.maximum.reduceat(table, self._starts, axis=1).min(axis=0)
        other_way = np.minimum.reduceat(table.max(axis=0), self._starts)
        return np.round(np.minimum(one_way, other_way).astype(np.float64), DECIMALS)


def spread(distinct: Sequence[Entry], target: int) -> tuple[list[Entry], dict[str, Verdict]]:
    """The best sets that are most unlike each other.

    Greedy farthest-point selection (Gonzalez, "Clustering to minimize the maximum intercluster
    distance", 1985) weighted by merit: after the best set, always the one with the largest
    merit x (1 - its highest likeness to those chosen), where likeness is the cosine of the mean
    vectors.

    Args:
        distinct: best first.
        target: how many to keep.
    """
    if len(distinct) <= target:
        return list(distinct), {}
    means = np.stack([_mean(entry.rows) for entry in distinct])
    merits = np.array([entry.merit for entry in distinct])
    nearest = np.full(len(distinct), -1.0)
    free = np.ones(len(distinct), np.bool_)
    bar = 0.0
    for _ in range(target):
        gains = np.where(free, np.round(merits * (1 - nearest), DECIMALS), -1.0)
        best = int(gains.argmax())
        bar, free[best] = float(gains[best]), False
        nearest = np.maximum(nearest, np.round(means @ means[best], DECIMALS))
    gains = np.round(merits * (1 - nearest), DECIMALS)
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
    entry: Entry, reason: str = "", value: float = -1.0, threshold: float = -1.0, detail: str = ""
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
