from __future__ import annotations

import numpy as np
import pytest

from iclora.evaluation.agreement import spearman
from iclora.evaluation.bootstrap import (
    Resampling,
    by_prompt,
    expanded_tail,
    interval,
    paired,
    student,
)

RESAMPLING = Resampling(resamples=1000)


@pytest.mark.parametrize("count", [8, 24, 48])
@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_nineteen_of_twenty_intervals_hold_the_truth(count, kind):
    """600 simulated evaluations: coverage of a nominal 95 % interval, binomial error 0.9 %."""
    rng = np.random.default_rng(count)
    draw, truth = (
        (lambda: rng.normal(0.3, 0.1, count), 0.3)
        if kind == "normal"
        else (lambda: rng.beta(2, 5, count), 2 / 7)
    )
    intervals = [interval(draw(), Resampling(resamples=400, seed=n)) for n in range(600)]
    hits = np.mean([score.low <= truth <= score.high for score in intervals])
    assert 0.92 <= hits <= 0.985


@pytest.mark.parametrize(
    ("freedom", "expected"), [(4, 2.776), (9, 2.262), (23, 2.069), (47, 2.012), (1000, 1.962)]
)
def test_students_quantile_is_that_of_the_tables(freedom, expected):
    assert student(0.975, freedom) == pytest.approx(expected, rel=0.004)


def test_few_prompts_cut_less_off_the_tail():
    assert expanded_tail(8, 0.95) < expanded_tail(48, 0.95) < 0.025


def test_pairing_takes_the_prompts_difficulty_out():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1, (40, 1))
    baseline = hard + rng.normal(0, 0.05, (40, 2))
    better = hard + 0.1 + rng.normal(0, 0.05, (40, 2))
    alone, difference = interval(better, RESAMPLING), paired(better, baseline, RESAMPLING)
    assert difference.low > 0
    assert alone.high - alone.low > 5 * (difference.high - difference.low)


def test_seeds_of_a_prompt_are_one_observation():
    values = np.random.default_rng(0).normal(size=(20, 1))
    once, often = interval(values, RESAMPLING), interval(np.repeat(values, 9, axis=1), RESAMPLING)
    assert (once.low, once.high, once.prompts) == (often.low, often.high, often.prompts)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).normal(size=30)
    assert interval(values, RESAMPLING) == interval(values, RESAMPLING)
    assert interval(values, RESAMPLING) != interval(values, RESAMPLING._replace(seed=1))


def test_missing_values_are_counted_and_in_no_figure():
    values = np.array([[0.2, np.nan], [0.4, 0.6], [np.nan, np.nan]])
    assert by_prompt(values)[:2].tolist() == [0.2, 0.5]
    score = interval(values, RESAMPLING)
    assert (score.value, score.prompts, score.missing) == (0.35, 2, 1)


def test_missing_on_either_side_is_missing_in_the_difference():
    scores, baseline = np.array([1.0, np.nan, 3.0, 4.0]), np.array([1.0, 2.0, np.nan, 3.0])
    score = paired(scores, baseline, RESAMPLING)
    assert (score.value, score.prompts, score.missing) == (0.5, 2, 2)


def test_a_mean_above_the_ceiling_counts_as_the_ceiling():
    rng = np.random.default_rng(0)
    scores, baseline = rng.normal(0.7, 0.1, 40), rng.normal(0.9, 0.02, 40)
    assert paired(scores, baseline, RESAMPLING).high < -0.15
    cut = paired(scores, baseline, RESAMPLING, ceiling=0.6)
    assert (cut.value, cut.low, cut.high) == (0.0, 0.0, 0.0)
    part = paired(scores, baseline, RESAMPLING, ceiling=0.8)
    assert part.value == pytest.approx(scores.mean() - 0.8, abs=1e-4)
    assert paired(scores, baseline, RESAMPLING, ceiling=2.0) == paired(scores, baseline, RESAMPLING)


def test_the_ceiling_cuts_means_and_not_prompts():
    """Prompts that scatter around the ceiling are no worse than prompts that lie on it."""
    rng = np.random.default_rng(0)
    scattered = 0.7 + np.concatenate([x := rng.normal(0, 0.2, 50), -x])
    assert paired(scattered, np.full(100, 0.9), RESAMPLING, ceiling=0.7).value == pytest.approx(0.0)


@pytest.mark.parametrize(("measured", "has"), [(1, False), (2, True)])
def test_an_interval_takes_two_prompts(measured, has):
    values = np.array([0.5] * measured + [np.nan] * 3)
    assert (interval(values, RESAMPLING) is not None) == has


def test_a_tie_has_an_interval_of_zero_width():
    score = paired(np.full((5, 2), 0.3), np.full((5, 2), 0.3), RESAMPLING)
    assert (score.value, score.low, score.high) == (0.0, 0.0, 0.0)


def test_rank_correlation_sees_order_and_not_scale():
    truth = np.random.default_rng(0).random((20, 2))
    assert spearman(truth**3, truth, RESAMPLING)[0] == 1.0
    assert spearman(-truth, truth, RESAMPLING)[0] == -1.0
    noise = np.random.default_rng(1).random((20, 2))
    value, low, high = spearman(noise, truth, RESAMPLING)
    assert low < 0 < high
    assert abs(value) < 0.5


def test_rank_correlation_with_ties_is_that_of_the_mean_ranks():
    metric, truth = np.array([[1.0], [2.0], [2.0], [3.0]]), np.array([[1.0], [3.0], [2.0], [4.0]])
    assert spearman(metric, truth, RESAMPLING)[0] == pytest.approx(0.9487, abs=1e-4)


def test_rank_correlation_is_missing_where_it_means_nothing():
    truth = np.random.default_rng(0).random((5, 1))
    assert spearman(np.ones((5, 1)), truth, RESAMPLING) is None
    assert spearman(truth[:2], truth[:2], RESAMPLING) is None
    holes = np.where(np.arange(5)[:, None] > 1, np.nan, truth)
    assert spearman(holes, truth, RESAMPLING) is None
