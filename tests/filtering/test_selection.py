"""Across the dataset: the same set once, then the best that are most unlike each other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclora.filtering.selection import (
    ChooseParams,
    ScoredSet,
    choose,
    drop_duplicates,
    select_diverse,
)
from schemas.frame import Frame, ImageSet
from schemas.stage import Chosen


def entry(key: str, angles, merit: float = 0.5, source: str = "s") -> ScoredSet:
    """A set whose frames look in these directions (radians)."""
    frames = tuple(
        Frame(
            id=f"{key}-{number}",
            source=source,
            file="f.png",
            content="c",
            width=64,
            height=64,
            crop=(0, 0, 64, 64),
        )
        for number in range(len(angles))
    )
    rows = np.array([[math.cos(a), math.sin(a)] for a in angles], np.float32)
    return ScoredSet(ImageSet(key=key, source=source, frames=frames), rows, merit)


def params(max_sets: int = 100) -> ChooseParams:
    return ChooseParams(max_set_similarity=0.98, max_sets=max_sets)


def by_key(verdicts):
    return {verdict.id: verdict for verdict in verdicts}


@pytest.mark.parametrize(("cosine", "duplicates"), [(0.98, False), (0.9799, False), (0.9801, True)])
def test_two_sets_are_the_same_above_the_bound(cosine, duplicates):
    turn = math.acos(cosine)
    first, second = entry("a", [0.0, 1.5]), entry("b", [turn, 1.5])
    kept, verdicts = drop_duplicates([first, second], 0.98)
    assert len(kept) == (1 if duplicates else 2)
    if duplicates:
        assert verdicts["b"].reason == "same_set"
        assert (verdicts["b"].value, verdicts["b"].threshold) == (0.9801, 0.98)


def test_the_same_pictures_in_another_order_are_the_same_set():
    kept, _ = drop_duplicates([entry("a", [0.0, 1.0, 2.0]), entry("b", [2.0, 0.0, 1.0])], 0.98)
    assert [one.set.key for one in kept] == ["a"]


def test_one_shared_panel_does_not_make_two_sets_the_same():
    kept, _ = drop_duplicates([entry("a", [0.0, 1.0]), entry("b", [0.0, 2.5])], 0.98)
    assert len(kept) == 2


def test_a_part_of_a_longer_set_is_another_set():
    kept, _ = drop_duplicates([entry("a", [0.0, 1.0, 2.5]), entry("b", [0.0, 1.0])], 0.98)
    assert len(kept) == 2


def test_of_twins_the_better_is_kept():
    outcome = choose([entry("a", [0.0, 1.0], 0.4), entry("b", [0.0, 1.0], 0.6)], params())
    assert [one.key for one in outcome.sets] == ["b"]
    assert by_key(outcome.verdicts)["a"].detail == "as b"


def test_the_best_set_comes_first_and_then_the_most_unlike():
    entries = [
        entry("best", [0.0, 0.2], 0.9),
        entry("near", [0.1, 0.3], 0.8),
        entry("far", [1.5, 1.7], 0.5),
    ]
    chosen, rejected = select_diverse(entries, 2)
    assert [one.set.key for one in chosen] == ["best", "far"]
    assert rejected["near"].reason == "over_target"
    assert rejected["near"].value <= rejected["near"].threshold


@pytest.mark.parametrize(("target", "kept"), [(3, 3), (2, 2), (0, 3)])
def test_max_sets_is_kept_exactly_and_zero_keeps_all(target, kept):
    entries = [entry(name, [turn, turn + 0.2]) for name, turn in zip("abc", (0, 1, 2), strict=True)]
    outcome = choose(entries, params(target))
    assert len(outcome.sets) == kept
    assert len(outcome.verdicts) == 3


def test_a_set_that_two_sources_hold_is_one_item():
    outcome = choose([entry("a", [0.0, 1.0]), entry("a", [0.0, 1.0])], params())
    assert len(outcome.verdicts) == len(outcome.sets) == 1


def test_nothing_to_choose_from():
    assert choose([], params()) == Chosen(sets=(), seen=0, verdicts=())


def test_the_order_of_the_sources_does_not_matter():
    entries = [
        entry("a", [0.0, 1.0], 0.5, "x"),
        entry("b", [0.001, 1.001], 0.5, "y"),
        entry("c", [2.0, 2.5], 0.7, "z"),
        entry("d", [2.9, 3.0], 0.1, "x"),
    ]
    two = params(2)
    outcomes = {repr(choose(order, two)) for order in itertools.permutations(entries)}
    assert len(outcomes) == 1


@settings(max_examples=40, deadline=None)
@given(
    angles=st.lists(st.tuples(st.floats(0, 6), st.floats(0, 1)), min_size=1, max_size=12),
    target=st.integers(0, 6),
)
def test_every_set_gets_one_verdict(angles, target):
    entries = [
        entry(f"k{number}", [turn, turn + 0.4], merit)
        for number, (turn, merit) in enumerate(angles)
    ]
    outcome = choose(entries, params(target))
    assert sorted(v.id for v in outcome.verdicts) == sorted(e.set.key for e in entries)
    kept = {v.id for v in outcome.verdicts if v.outcome == "kept"}
    assert kept == {one.key for one in outcome.sets}
    assert not target or len(kept) <= target
