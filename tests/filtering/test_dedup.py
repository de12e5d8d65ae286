"""Twins are found in blocks of panels: exactly those that comparing every two sets finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclora.filtering import dedup
from iclora.filtering.dedup import find_duplicates, set_similarity


def plain(sets, ceiling):
    """Every set against every kept one, and every panel against every panel."""
    found, kept = [], []
    for number, one in enumerate(sets):
        values = [set_similarity(one, sets[other]) for other in kept]
        best = max(values, default=-1.0)
        if best > ceiling:
            found.append((number, best, kept[values.index(best)]))
        else:
            kept.append(number)
    return found


def vectors(rng, sizes, spread):
    """Sets of these many panels, around so few directions that many are alike."""
    centres = rng.normal(size=(4, 16))
    sets = [centres[rng.integers(4, size=n)] + spread * rng.normal(size=(n, 16)) for n in sizes]
    return [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in sets]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(2, 5), max_size=40),
    spread=st.sampled_from([0.0, 0.05, 0.1, 0.2]),
    ceiling=st.sampled_from([0.9, 0.98, 0.999]),
)
def test_the_same_twins_as_comparing_all_with_all(seed, sizes, spread, ceiling):
    sets = vectors(np.random.default_rng(seed), sizes, spread)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "_BLOCK", 7)
        patch.setattr(dedup, "_TILE", 5)
        assert find_duplicates(sets, ceiling) == plain(sets, ceiling)


def test_the_same_over_several_real_blocks():
    sets = vectors(np.random.default_rng(1), [3] * 400, 0.1)
    assert find_duplicates(sets, 0.98) == plain(sets, 0.98)


def test_the_likeness_is_that_of_the_least_matched_panel():
    sets = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.array([[1.0, 0.0]], np.float32)
    assert set_similarity(*sets) == set_similarity(*sets[::-1]) == 0.0
    assert set_similarity(sets[0], sets[0][::-1]) == 1.0
