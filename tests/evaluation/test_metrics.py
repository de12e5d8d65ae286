from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from iclora.evaluation import metrics


def unit(rows):
    rows = np.asarray(rows, float)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def random_sets(*shape, seed=0):
    return unit(np.random.default_rng(seed).normal(size=shape))


def test_consistency_is_the_mean_cosine_over_pairs():
    panels = unit([[1, 0], [0, 1], [1, 1]])
    assert metrics.consistency(panels[None]) == pytest.approx([2 * np.sqrt(0.5) / 3])


@given(arrays(float, (4, 3, 5), elements=st.floats(-1, 1)).filter(lambda a: (abs(a) > 0.01).all()))
def test_consistency_is_a_cosine_and_a_repeated_panel_is_one(raw):
    panels = unit(raw)
    assert (np.abs(metrics.consistency(panels)) <= 1 + 1e-9).all()
    repeated = np.repeat(panels[:, :1], 3, axis=1)
    assert metrics.consistency(repeated) == pytest.approx(np.ones(4))


def pair_at(cosine):
    return np.array([[[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]]])


@pytest.mark.parametrize(("cosine", "share"), [(0.949, 1.0), (0.951, 0.0)])
def test_a_pair_is_distinct_up_to_the_threshold(cosine, share):
    assert metrics.distinct(pair_at(cosine), 0.95) == pytest.approx([share])


def test_composition_sees_the_arrangement_and_not_the_brightness():
    ramp = np.linspace(0, 1, 16)[None, :].repeat(16, axis=0)
    thumbs = np.stack([ramp, ramp * 0.5 + 0.2, ramp[:, ::-1]])
    alike = metrics.composition(thumbs[None, :2])
    mirrored = metrics.composition(thumbs[None, [0, 2]])
    assert alike == pytest.approx([0.0])
    assert mirrored == pytest.approx([1.0])


def test_flat_thumbnails_are_like_each_other_and_unlike_a_picture():
    flat, ramp = np.full((8, 8), 0.4), np.linspace(0, 1, 64).reshape(8, 8)
    assert metrics.composition(np.stack([flat, flat + 0.3])[None]) == pytest.approx([0.0])
    assert metrics.composition(np.stack([flat, ramp])[None]) == pytest.approx([1.0])


def test_variety_of_one_panel_repeated_is_zero():
    panels = np.repeat(random_sets(2, 1, 6), 3, axis=1)
    thumbs = np.repeat(np.random.default_rng(1).random((2, 1, 8, 8)), 3, axis=1)
    assert metrics.variety(panels, thumbs, 0.95) == pytest.approx([0.0, 0.0])


def test_spread_is_zero_for_the_same_canvas_and_leaves_missing_seeds_out():
    thumbs = np.repeat(np.random.default_rng(0).random((3, 1, 2, 8, 8)), 3, axis=1)
    assert metrics.spread(thumbs) == pytest.approx(np.zeros(3))
    thumbs[0, 1:] = np.nan  # one seed left: nothing to compare
    thumbs[1, 2] = np.nan
    result = metrics.spread(thumbs)
    assert np.isnan(result[0])
    assert result[1] == pytest.approx(0.0)


def test_spread_compares_the_same_panel_of_two_seeds():
    """Seeds that swap their panels differ, though the same pictures are there."""
    first, second = np.linspace(0, 1, 64).reshape(8, 8), np.linspace(1, 0, 64).reshape(8, 8)
    thumbs = np.stack([np.stack([first, second]), np.stack([second, first])])[None]
    assert metrics.spread(thumbs) == pytest.approx([1.0])


def test_adherence_margin_and_wins_of_perfect_and_of_swapped_texts():
    panels = np.eye(3)[None, None]
    own, swapped = np.eye(3)[None], np.eye(3)[None, [1, 2, 0]]
    assert metrics.adherence(panels, own).item() == pytest.approx(1.0)
    assert metrics.own_margin(panels, own).item() == pytest.approx(1.0)
    assert metrics.wins(panels, own).item() == pytest.approx(1.0)
    assert metrics.adherence(panels, swapped).item() == pytest.approx(0.0)
    assert metrics.own_margin(panels, swapped).item() == pytest.approx(-0.5)
    assert metrics.wins(panels, swapped).item() == pytest.approx(0.0)


def test_a_tie_between_texts_is_no_win():
    panels = np.repeat(np.eye(3)[None, None, :1], 3, axis=2)
    texts = np.repeat(np.eye(3)[None, :1], 3, axis=1)
    assert metrics.wins(panels, texts).item() == pytest.approx(0.0)
    assert metrics.own_margin(panels, texts).item() == pytest.approx(0.0)


def test_identity_compares_the_given_panel_with_the_generated_ones():
    panels = unit([[1, 0], [1, 0], [0, 1]])[None]
    assert metrics.identity(panels, 0) == pytest.approx([0.5])
    assert metrics.identity(panels, 2) == pytest.approx([0.0])


def test_nearest_finds_the_set_itself():
    training = random_sets(7, 3, 5)
    near, which = metrics.nearest(training[[4, 2]][:, None], training)
    assert which[:, 0].tolist() == [4, 2]
    assert near == pytest.approx(np.ones((2, 1)))


def test_nearest_compares_panel_with_panel():
    """The same panels in another order are another set."""
    training = np.eye(3)[None]
    near, _ = metrics.nearest(np.eye(3)[None, [1, 2, 0]], training)
    assert near == pytest.approx([0.0])


def test_nearest_others_leaves_the_set_itself_out():
    training = np.concatenate([random_sets(3, 2, 8), random_sets(1, 2, 8)])  # last = first
    result = metrics.nearest_others(training)
    assert result[[0, 3]] == pytest.approx([1.0, 1.0])
    assert (result[1:3] < 0.99).all()


def test_a_missing_picture_is_missing_in_every_score_of_its_set_and_no_other():
    panels, texts = random_sets(2, 2, 3, 5), random_sets(2, 3, 5, seed=1)
    thumbs = np.random.default_rng(2).random((2, 2, 3, 4, 4))
    panels[0, 1] = thumbs[0, 1] = np.nan
    near, which = metrics.nearest(panels, random_sets(4, 3, 5, seed=3))
    result = [
        metrics.consistency(panels),
        metrics.variety(panels, thumbs, 0.95),
        metrics.adherence(panels, texts),
        metrics.own_margin(panels, texts),
        metrics.wins(panels, texts),
        metrics.identity(panels, 0),
        near,
    ]
    for score in result:
        assert np.isnan(score).tolist() == [[False, True], [False, False]]
    assert which[0, 1] == -1
