"""Detection of duplicate sets without comparing all panels of all pairs.

Two sets are duplicates only if each panel of either has a match in the other, so the first panel
must have one too. First panels are compared with all panels in blocks, with one matrix product per
block; whole sets are compared only for those matches. An approximate nearest-neighbor index could
miss duplicates and would make the result nondeterministic.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iclora.filtering.similarity import Rows, cosines

_BLOCK, _TILE = 256, 4096
"""First panels and panels per matrix product; the result fits in the CPU cache."""

_TOLERANCE = 1e-4
"""Tolerance that exceeds float32 error plus rounding to four decimals, so that no duplicate is
missed."""


class Duplicate(NamedTuple):
    """Set that duplicates an earlier one."""

    position: int
    similarity: float
    duplicate_of: int
    """Index of the most similar kept set; the first one on ties."""


def find_duplicates(sets: Sequence[Rows], ceiling: float) -> list[Duplicate]:
    """Finds the sets that duplicate an earlier kept set.

    Args:
        sets: Unit vectors [panels, d] of each set, in order of preference.
        ceiling: Similarity above which two sets are duplicates.
    """
    duplicates: list[Duplicate] = []
    kept = np.zeros(len(sets), np.bool_)
    for number, near in _near_candidates(sets, ceiling - _TOLERANCE, kept):
        others = near[kept[near]]
        values = [set_similarity(sets[number], sets[other]) for other in others]
        best = max(values, default=-1.0)
        if best > ceiling:
            duplicates.append(Duplicate(number, best, int(others[values.index(best)])))
        kept[number] = best <= ceiling
    return duplicates


def set_similarity(one: Rows, other: Rows) -> float:
    """Computes the similarity of two sets: the cosine of the worst-matched panel.

    Each panel of either set is matched with its best counterpart in the other, and the worst match
    counts (Hausdorff distance in cosines). 1.0 means the same images in any order. Rounded to four
    decimals.
    """
    table = cosines(one, other)
    return float(min(table.max(axis=0).min(), table.max(axis=1).min()))


def _near_candidates(
    sets: Sequence[Rows], bound: float, kept: NDArray[np.bool_]
) -> Generator[tuple[int, NDArray[np.intp]]]:
    """Yields each set's index and the ascending indices of earlier sets that may be duplicates.

    The caller fills ``kept`` set by set. Sets dropped before a block begins are skipped, so a
    thousand copies of a set cost no more than a thousand distinct sets.
    """
    owners = np.repeat(np.arange(len(sets)), [len(rows) for rows in sets])
    panels = np.concatenate([*sets, np.empty((0, sets[0].shape[1] if sets else 0), np.float32)])
    for start in range(0, len(sets), _BLOCK):
        stop = min(start + _BLOCK, len(sets))
        firsts = np.stack([rows[0] for rows in sets[start:stop]])
        alive = np.concatenate([kept[:start], np.ones(stop - start, np.bool_)])
        pairs = _matches(firsts, panels, owners[: np.searchsorted(owners, stop)], alive, bound)
        for number in range(start, stop):
            others = pairs[1][pairs[0] == number - start]
            yield number, np.unique(others[others < number])


def _matches(
    firsts: Rows, panels: Rows, owners: NDArray[np.intp], alive: NDArray[np.bool_], bound: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns index pairs of first panels and kept sets with a panel above the bound."""
    found = [(np.empty(0, np.intp), np.empty(0, np.intp))]
    for start in range(0, len(owners), _TILE):
        living = start + np.flatnonzero(alive[owners[start : start + _TILE]])
        first, column = np.nonzero(firsts @ panels[living].T > bound)
        found.append((first, owners[living[column]]))
    return np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])
