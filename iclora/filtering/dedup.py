"""Detection of duplicate sets without comparing all panels of all pairs.

Two sets are duplicates only if each panel of either has a match in the other, so the first panel
must have one too. First panels are compared with all panels in blocks, with one matrix product per
block; whole sets are compared only for those matches. An approximate nearest-neighbor index could
miss duplicates and would make the result nondeterministic.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from numpy.typing import NDArray

from iclora.filtering.similarity import Rows, cosines

_BLOCK, _TILE = 256, 4096
"""First panels and panels per matrix product; the result fits in the CPU cache."""

_TOLERANCE = 1e-4
"""Tolerance that exceeds float32 error plus rounding to four decimals, so that no duplicate is
missed."""


def find_duplicates(sets: Sequence[Rows], ceiling: float) -> list[tuple[int, float, int]]:
    """Finds the sets that duplicate an earlier kept set.

    Args:
        sets: Unit vectors [panels, d] of each set, in order of preference.
        ceiling: Similarity above which two sets are duplicates.

    Returns:
        Index of each duplicate, its similarity to the most similar kept set, and the index of that
        set (the first one on ties).
    """
    duplicates: list[tuple[int, float, int]] = []
    kept = np.zeros(len(sets), np.bool_)
    for number, near in _near_candidates(sets, ceiling - _TOLERANCE, kept):
        candidates = near[kept[near]]
        values = [set_similarity(sets[number], sets[candidate]) for candidate in candidates]
        best = max(values, default=-1.0)
        if best > ceiling:
            duplicates.append((number, best, int(candidates[values.index(best)])))
        kept[number] = best <= ceiling
    return duplicates


def set_similarity(first: Rows, second: Rows) -> float:
    """Computes the similarity of two sets: the cosine of the worst-matched panel.

    Each panel of either set is matched with its best counterpart in the other, and the worst match
    counts (Hausdorff distance in cosines). 1.0 means the same images in any order. Rounded to four
    decimals.
    """
    table = cosines(first, second)
    return float(min(table.max(axis=0).min(), table.max(axis=1).min()))


def _near_candidates(
    sets: Sequence[Rows], bound: float, kept: NDArray[np.bool_]
) -> Generator[tuple[int, NDArray[np.intp]]]:
    """Yields each set's index and the ascending indices of earlier sets that may be duplicates.

    The caller fills ``kept`` set by set. Sets dropped before a block begins are skipped, so a
    thousand copies of a set cost no more than a thousand distinct sets.
    """
    if not sets:
        return
    owners = np.repeat(np.arange(len(sets)), [len(rows) for rows in sets])
    panels = np.concatenate(sets)  # [all panels, d]
    for start in range(0, len(sets), _BLOCK):
        stop = min(start + _BLOCK, len(sets))
        firsts = np.stack([rows[0] for rows in sets[start:stop]])
        alive = np.concatenate([kept[:start], np.ones(stop - start, np.bool_)])
        # Pairs of a first panel of the block and a set with a panel above the bound.
        columns: list[NDArray[np.intp]] = []
        matches: list[NDArray[np.intp]] = []
        block_owners = owners[: np.searchsorted(owners, stop)]
        for tile in range(0, len(block_owners), _TILE):
            living = tile + np.flatnonzero(alive[block_owners[tile : tile + _TILE]])
            first, column = np.nonzero(firsts @ panels[living].T > bound)
            columns.append(first)
            matches.append(block_owners[living[column]])
        first_of_pair, set_of_pair = np.concatenate(columns), np.concatenate(matches)
        for number in range(start, stop):
            near = set_of_pair[first_of_pair == number - start]
            yield number, np.unique(near[near < number])
