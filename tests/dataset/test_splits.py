"""Train and val: whole units, stable, and neither empty where both can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iclora.dataset.splits import assign_splits, share_of, unit_of
from schemas.sharding import SplitParams

UNITS = st.lists(st.text("0123456789abcdef", min_size=16, max_size=16), unique=True, max_size=40)


@given(UNITS, st.floats(0.01, 0.5))
def test_train_is_never_empty_and_val_only_with_fewer_than_two(units: list[str], share: float):
    splits = assign_splits(units, SplitParams(val_share=share))
    assert set(splits) == set(units)
    assert not units or "train" in splits.values()
    assert ("val" in splits.values()) == (len(units) >= 2)


@given(UNITS, st.randoms())
def test_order_does_not_matter(units: list[str], random):
    shuffled = list(units)
    random.shuffle(shuffled)
    assert assign_splits(units, SplitParams()) == assign_splits(shuffled, SplitParams())


@given(UNITS, UNITS, st.floats(0.01, 0.5))
def test_adding_sources_moves_none_once_both_sides_are_decided(units, more, share):
    params = SplitParams(val_share=share)
    sides = {share_of(unit) < share for unit in units}
    if sides == {True, False}:
        before, after = assign_splits(units, params), assign_splits([*units, *more], params)
        assert all(after[unit] == side for unit, side in before.items())


def test_the_share_is_met_on_average():
    units = [f"{number:016x}" for number in range(2000)]
    splits = assign_splits(units, SplitParams(val_share=0.1))
    assert 150 < sum(split == "val" for split in splits.values()) < 250


def test_a_share_of_nothing_has_no_val():
    assert set(assign_splits(["a", "b", "c"], SplitParams(val_share=0.0)).values()) == {"train"}


def test_units():
    assert unit_of("abc", 4, SplitParams()) == unit_of("abc", 5, SplitParams())
    by_scene = SplitParams(by="scene")
    assert unit_of("abc", 4, by_scene) != unit_of("abc", 5, by_scene)
