from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclora.evaluation.plots import axis, loss_curve, score_plots
from iclora.evaluation.score_tables import absent, differences, score_infos, tiles
from iclora.evaluation.scorers import Scorers
from schemas.evaluation import ArmReport, Margins, Score

INFOS = score_infos(Scorers(None))
ends = st.floats(-1e3, 1e3, allow_nan=False)


@given(ends, ends)
def test_an_axis_holds_its_values_with_few_round_ticks(one, other):
    low, high = sorted((one, other))
    start, end, ticks = axis(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert start - slack <= low <= high <= end + slack
    assert start < end
    assert 2 <= len(ticks) <= 7
    assert (ticks[0][0], ticks[-1][0]) == (0.0, 100.0)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.02, 0.98, ["0.0", "0.5", "1.0"]),
        (0.31, 0.34, ["0.31", "0.32", "0.33", "0.34"]),
        (0.0, 300.0, ["0", "100", "200", "300"]),
    ],
)
def test_ticks_are_round(low, high, labels):
    assert [label for _, label in axis(low, high)[2]] == labels


def score(value, low, high):
    return Score(value=value, low=low, high=high, prompts=5)


def test_a_plot_shows_every_arm_that_has_the_score_in_its_place():
    arms = {
        name: ArmReport(arm=name, label=name, renders=5, scores={"consistency": value})
        for name, value in (
            ("adapter", score(0.5, 0.4, 0.6)),
            ("repeated", score(1.0, 1.0, 1.0)),
        )
    }
    arms["base"] = ArmReport(arm="base", label="base", renders=0, scores={})
    (plot,) = score_plots(arms, INFOS)
    assert [mark.label for mark in plot.marks] == ["adapter", "repeated"]
    assert all(0 <= mark.low <= mark.x <= mark.high <= 100 for mark in plot.marks)
    assert "adapter 0.500 [0.400, 0.600]" in plot.summary


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("adherence", score(0.1, 0.01, 0.2), "better"),
        ("adherence", score(0.1, 0.0, 0.2), "no difference shown"),
        ("adherence", score(-0.1, -0.2, -0.01), "worse"),
        ("memorised", score(0.1, 0.01, 0.2), "worse"),
        ("clipping", score(-0.1, -0.2, -0.01), "better"),
    ],
)
def test_a_difference_in_words(name, value, word):
    assert differences({name: value}, Margins(), INFOS)[0].verdict == word


def test_the_margin_stands_beside_what_the_rule_looks_at():
    both = {"variety": score(0, 0, 0), "variety_capped": score(0, 0, 0)}
    rows = differences(both, Margins(variety=0.07), INFOS)
    assert [(row.title, row.margin) for row in rows] == [
        ("Variety", ""),
        ("Variety, as far as real sets go", "-0.07"),
    ]
    assert (
        differences({"own_margin": score(0, 0, 0)}, Margins(adherence=0.03), INFOS)[0].margin
        == "-0.03"
    )


def test_tiles_show_the_adapters_value_beside_the_difference():
    own = {"adherence": score(0.3, 0.2, 0.4), "wins": score(0.5, 0.4, 0.6)}
    paired = {"adherence": score(0.1, 0.05, 0.2), "wins": score(0, 0, 0)}
    ((value, row),) = tiles(own, paired, INFOS)
    assert (value, row.title, row.text) == (0.3, "Adherence", "+0.100 [+0.050, +0.200]")


def test_scores_that_are_missing_for_one_reason_share_a_sentence():
    reasons = dict.fromkeys(("structure", "memorised"), "no canvas")
    arms = {
        name: ArmReport(arm=name, label=name, renders=0, scores={}, unmeasured=reasons)
        for name in ("repeated", "shuffled")
    }
    assert absent(arms, INFOS) == ["repeated and shuffled without structure, memorised: no canvas."]


def test_no_figure_shows_a_negative_zero():
    assert differences({"wins": score(-0.0, -0.0001, 0.0)}, Margins(), INFOS)[0].text == (
        "+0.000 [+0.000, +0.000]"
    )


def test_a_loss_curve_is_smooth_thin_and_inside():
    rows = [(step, 1 / step + 0.1 * (step % 2)) for step in range(1, 5001)]
    curve = loss_curve(rows)
    points = [tuple(map(float, p.split())) for p in curve.path.removeprefix("M").split(" L")]
    assert len(points) <= 500
    assert all(-0.1 <= x <= 1000.1 and -0.1 <= y <= 240.1 for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert "at step 1 " in curve.summary


@pytest.mark.parametrize("rows", [[], [(1, 0.5)], [(1, math.nan), (2, 0.5), (3, math.inf)]])
def test_no_curve_without_two_finite_losses(rows):
    assert loss_curve(rows) is None
    assert loss_curve([*rows, (8, 0.4), (9, 0.4)]) is not None
