"""How frames become sets: every bound on both sides, and one verdict for every frame.

Frames are points on a circle, so the cosine of any two is known exactly.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclora.filtering import grouping
from iclora.filtering.grouping import drop_near_duplicates
from iclora.filtering.scenes import find_scenes
from iclora.filtering.similarity import FrameSet, make_frame_set
from schemas.filtering import SetParams, SimilarityParams
from schemas.frame import Frame, ImageSet
from schemas.verdict import Verdict, tally

FAR = [f"{bits:016x}" for bits in np.random.default_rng(3).integers(0, 2**63, 64)]
OPEN = SimilarityParams(min_adjacent=-1.0, near_duplicate=1.0, min_first_last=-1.0, same_scene=-1.0)


def angle(cosine: float) -> float:
    return math.acos(cosine)


def frames(angles, *, shots=None, scenes=None, hashes=None) -> FrameSet:
    """A source whose frames look in these directions (radians)."""
    made = [
        Frame(
            id=f"f{index:03d}",
            source="s",
            file="f.png",
            content="c",
            width=64,
            height=64,
            crop=(0, 0, 64, 64),
            shot=index if shots is None else shots[index],
            scene="" if scenes is None else scenes[index],
        )
        for index in range(len(angles))
    ]
    rows = np.array([[math.cos(a), math.sin(a)] for a in angles], np.float32)
    named = dict(zip((f.id for f in made), FAR if hashes is None else hashes, strict=False))
    return make_frame_set(made, rows, named)


class Grouped(NamedTuple):
    sets: list[ImageSet]
    verdicts: list[Verdict]


def group_frames(*arguments) -> Grouped:
    return Grouped(*grouping.group_frames(*arguments))


def reasons(grouped) -> list[str]:
    return [verdict.reason or "kept" for verdict in grouped.verdicts]


def bounds(**changes: float) -> SetParams:
    return SetParams(similarity=OPEN.model_copy(update=changes), max_hash_distance=0)


@pytest.mark.parametrize(("cosine", "kept"), [(0.6, True), (0.6001, True), (0.5999, False)])
def test_neighbours_may_be_as_unlike_as_the_floor(cosine, kept):
    grouped = group_frames(frames([0, angle(cosine)]), 2, bounds(min_adjacent=0.6))
    assert bool(grouped.sets) is kept
    if not kept:
        assert reasons(grouped) == ["out_of_band"] * 2
        assert grouped.verdicts[0].value == 0.5999
        assert grouped.verdicts[0].threshold == 0.6


@pytest.mark.parametrize(("cosine", "kept"), [(0.95, True), (0.9499, True), (0.9501, False)])
def test_frames_may_be_as_alike_as_the_ceiling(cosine, kept):
    grouped = group_frames(frames([0, angle(cosine)]), 2, bounds(near_duplicate=0.95))
    assert bool(grouped.sets) is kept
    if not kept:
        assert grouped.verdicts[1].reason == "near_duplicate"
        assert (grouped.verdicts[1].value, grouped.verdicts[1].threshold) == (0.9501, 0.95)


@pytest.mark.parametrize(("cosine", "kept"), [(0.5, True), (0.5001, True), (0.4999, False)])
def test_first_and_last_must_still_belong_together(cosine, kept):
    turn = angle(cosine)
    grouped = group_frames(frames([0, turn / 2, turn]), 3, bounds(min_first_last=0.5))
    assert bool(grouped.sets) is kept
    if not kept:
        assert reasons(grouped) == ["ends_apart"] * 3
        assert (grouped.verdicts[0].value, grouped.verdicts[0].threshold) == (0.4999, 0.5)


@pytest.mark.parametrize(("gap", "kept"), [(5, True), (6, False)])
def test_at_most_max_gap_shots_lie_between_neighbours(gap, kept):
    grouped = group_frames(frames([0, 1], shots=[3, 3 + gap + 1]), 2, bounds())
    assert bool(grouped.sets) is kept


@pytest.mark.parametrize(("bits", "duplicate"), [(6, True), (7, False)])
def test_near_hashes_are_the_same_picture(bits, duplicate):
    hashes = ["0" * 16, f"{2**bits - 1:016x}"]
    params = SetParams(similarity=OPEN, max_hash_distance=6)
    _, verdicts = drop_near_duplicates(frames([0, 1], hashes=hashes), params)
    assert bool(verdicts) is duplicate
    if duplicate:
        assert verdicts["f001"].reason == "near_duplicate"
        assert (verdicts["f001"].value, verdicts["f001"].threshold) == (6.0, 6.0)


def test_a_slow_drift_is_caught_against_the_last_kept_frame():
    step = angle(0.98)
    keep, verdicts = drop_near_duplicates(
        frames([step * i for i in range(7)]), bounds(near_duplicate=0.95)
    )
    assert keep == [0, 2, 4, 6]
    assert set(verdicts) == {"f001", "f003", "f005"}


def test_no_picture_is_twice_in_a_set_even_if_others_lie_between():
    there, back = 0.0, angle(0.8)
    sight = frames([there, back, there, back])
    grouped = group_frames(sight, 3, bounds(near_duplicate=0.95))
    assert grouped.sets == []
    assert reasons(grouped) == ["too_few_neighbours"] * 4


def test_a_dialogue_is_one_scene_and_gives_sets_across_its_cuts():
    step = angle(0.9)
    a, b = 0.0, angle(0.2)
    sight = frames([a, b, a + step, b + step, a + 2 * step, b + 2 * step])
    params = bounds(min_adjacent=0.7, near_duplicate=0.95, same_scene=0.85)
    assert find_scenes(sight, params) == ((0, 1, 2, 3, 4, 5),)
    grouped = group_frames(sight, 3, params)
    assert [[f.id for f in one.frames] for one in grouped.sets] == [
        ["f000", "f002", "f004"],
        ["f001", "f003", "f005"],
    ]


@pytest.mark.parametrize(("cosine", "scenes"), [(0.75, 1), (0.7501, 1), (0.7499, 2)])
def test_shots_are_of_one_scene_down_to_the_scene_bound(cosine, scenes):
    found = find_scenes(frames([0, angle(cosine)]), bounds(same_scene=0.75))
    assert len(found) == scenes


@pytest.mark.parametrize(("gap", "scenes"), [(5, 1), (6, 2)])
def test_a_scene_bridges_at_most_max_gap_shots(gap, scenes):
    sight = frames([0, 0.1], shots=[0, gap + 1])
    assert len(find_scenes(sight, bounds(same_scene=0.9))) == scenes


def test_scenes_that_the_source_names_are_believed():
    sight = frames([0, 1, 0, 1], scenes=["a", "b", "a", "b"])
    assert find_scenes(sight, bounds(same_scene=1.0)) == ((0, 2), (1, 3))


def test_frames_of_two_scenes_are_never_in_one_set():
    sight = frames([0.0, 0.1, 0.2, 0.3], scenes=["a", "a", "b", "b"])
    grouped = group_frames(sight, 3, bounds())
    assert reasons(grouped) == ["scene_too_short"] * 4
    assert (grouped.verdicts[0].value, grouped.verdicts[0].threshold) == (2.0, 3.0)


def test_the_set_furthest_from_all_bounds_is_taken_first():
    sight = frames([0.0, angle(0.94), -angle(0.8)])
    grouped = group_frames(sight, 2, bounds(min_adjacent=0.65, near_duplicate=0.95))
    assert [f.id for f in grouped.sets[0].frames] == ["f000", "f002"]


@pytest.mark.parametrize("quota", [1, 2, 3])
def test_a_scene_gives_at_most_its_quota(quota):
    params = bounds().model_copy(update={"max_sets_per_scene": quota})
    sight = frames([0.2 * i for i in range(7)])
    grouped = group_frames(sight, 2, params)
    assert len(grouped.sets) == quota
    used = [f.id for one in grouped.sets for f in one.frames]
    assert len(used) == len(set(used))
    left = [v for v in grouped.verdicts if v.outcome == "rejected"]
    assert {v.reason for v in left} == {"leftover"}
    assert left[0].threshold == float(quota)


def test_frames_are_reused_only_when_asked_and_by_half():
    sight = frames([0.2 * i for i in range(5)])
    once = group_frames(sight, 4, bounds())
    assert len(once.sets) == 1
    again = group_frames(sight, 4, bounds().model_copy(update={"reuse_frames": True}))
    assert len(again.sets) == 1  # any other set of five frames would share three of four
    pairs = group_frames(sight, 2, bounds().model_copy(update={"reuse_frames": True}))
    shared = [{f.id for f in one.frames} for one in pairs.sets]
    assert any(one & other for one in shared for other in shared if one is not other)
    assert all(len(one & other) <= 1 for one in shared for other in shared if one is not other)


def test_similarities_are_recorded():
    grouped = group_frames(frames([0, angle(0.9), angle(0.9) + angle(0.8)]), 3, bounds())
    scores = grouped.sets[0].scores
    assert (scores["similarity_high"], scores["similarity_low"]) == (0.9, 0.8)
    assert scores["similarity_ends"] == round(math.cos(angle(0.9) + angle(0.8)), 4)


def test_keys_come_from_the_frames():
    one = group_frames(frames([0, 1, 2]), 3, bounds()).sets[0]
    more = group_frames(frames([0, 1, 2, 9], scenes=["", "", "", "x"]), 3, bounds()).sets[0]
    assert one.key == more.key
    assert one.key != group_frames(frames([0, 1, 2]), 2, bounds()).sets[0].key


@settings(max_examples=60, deadline=None)
@given(
    angles=st.lists(st.floats(0, 3, allow_nan=False), min_size=0, max_size=24),
    panels=st.integers(2, 5),
    gap=st.integers(0, 6),
    reuse=st.booleans(),
)
def test_every_frame_gets_one_verdict_and_every_set_obeys(angles, panels, gap, reuse):
    params = SetParams(max_gap=gap, reuse_frames=reuse)
    sight = frames(angles)
    grouped = group_frames(sight, panels, params)
    assert [v.id for v in grouped.verdicts] == [f.id for f in sight.frames]
    used = {f.id for one in grouped.sets for f in one.frames}
    assert used == {v.id for v in grouped.verdicts if v.outcome == "kept"}
    tally(grouped.verdicts, len(angles))
    index = {f.id: number for number, f in enumerate(sight.frames)}
    for one in grouped.sets:
        path = [index[f.id] for f in one.frames]
        assert path == sorted(path)
        assert len(path) == panels
        steps = [sight.cosine(a, b) for a, b in zip(path, path[1:], strict=False)]
        assert params.similarity.min_adjacent <= min(steps)
        assert (
            max(sight.cosine(a, b) for a in path for b in path if a < b)
            <= params.similarity.near_duplicate
        )
        assert sight.cosine(path[0], path[-1]) >= params.similarity.min_first_last
        assert all(b - a - 1 <= gap for a, b in zip(path, path[1:], strict=False))
