"""Sets that show the same: found without comparing every panel of every two sets.

Two sets are the same only if each panel of either has a match in the other, so the first panel
must have one too. Those first panels are compared with all panels in blocks, by one matrix product
each; whole sets are compared only where that finds a match. Decision: a plain product over
approximate neighbours (an index that may miss a twin would make the result a matter of luck).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iclora.filtering.similarity import Rows, cosines

_BLOCK, _TILE = 256, 4096
"""First panels and panels of one product: its table stays in the processor's cache."""

_TOLERANCE = 1e-4
"""Float32's error and the rounding to four decimals, generously: no twin is overlooked."""


class Duplicate(NamedTuple):
    """A set that shows the same as an earlier one."""

    position: int
    similarity: float
    duplicate_of: int
    """The most alike set among those kept; of equals the first."""


def find_duplicates(sets: Sequence[Rows], ceiling: float) -> list[Duplicate]:
    """Finds the sets that show the same as an earlier one which is no twin itself.

    Args:
        sets: the unit vectors [panels, d] of each set, the one to prefer first.
        ceiling: two sets are the same above this likeness.
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
    """How much two sets show the same pictures: the cosine of the least matched panel.

    For each panel of either set its best match in the other is taken, and the worst of those (the
    Hausdorff distance, in cosines): 1.0 means the same pictures in any order. Four decimals.
    """
    table = cosines(one, other)
    return float(min(table.max(axis=0).min(), table.max(axis=1).min()))


def _near_candidates(
    sets: Sequence[Rows], bound: float, kept: NDArray[np.bool_]
) -> Generator[tuple[int, NDArray[np.intp]]]:
    """Each set's number, and those of the earlier ones that may be the same, ascending.

    ``kept`` is filled by the caller from set to set; what was dropped before a block began is not
    looked at again, so a thousand copies of a set cost no more than a thousand sets.
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
    """Which first panel lies nearer than the bound to a panel of which living set."""
    found = [(np.empty(0, np.intp), np.empty(0, np.intp))]
    for start in range(0, len(owners), _TILE):
        living = start + np.flatnonzero(alive[owners[start : start + _TILE]])
        first, column = np.nonzero(firsts @ panels[living].T > bound)
        found.append((first, owners[living[column]]))
    return np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])
