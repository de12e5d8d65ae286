from __future__ import annotations

import pytest

from iclora.evaluation.decide import MIN_PROMPTS, OPTIONAL, REQUIRED, DecisionInputs, decide
from schemas.evaluation import EvaluateParams, Margins, Score

MARGINS = Margins(
    consistency=0.06, adherence=0.01, variety=0.05, spread=0.02, structure=0.04, identity=0.03
)
PARAMS = EvaluateParams(margins=MARGINS, max_memorized=0.1, max_missing=0.1)


def score(value, low, high, prompts=10, missing=0):
    return Score(value=value, low=low, high=high, prompts=prompts, missing=missing)


def evidence(**changes):
    """An adapter that is a little more consistent and equal in everything else."""
    paired = {name: score(0.0, -0.001, 0.001) for name in REQUIRED}
    paired["consistency"] = score(0.1, 0.05, 0.15)
    paired.update(changes.pop("paired", {}))
    paired = {name: value for name, value in paired.items() if value is not None}
    usual = {"baseline": "the base", "paired": paired, "uncapped": {}, "memorized": 0.02}
    return DecisionInputs(**{**usual, **changes})


def outcome(**changes):
    return decide(evidence(**changes), PARAMS).outcome


def test_better_in_consistency_and_not_worse_in_anything_is_promoted():
    decision = decide(evidence(), PARAMS)
    assert decision.outcome == "promoted"
    assert all(check.passed for check in decision.checks)
    assert decision.reasons == (
        "Consistency is better than that of the base: +0.100 [+0.050, +0.150].",
    )


MARGIN_OF = {"own_margin": 0.01, **MARGINS.model_dump()}


@pytest.mark.parametrize("name", [*REQUIRED, *OPTIONAL])
def test_each_score_may_be_worse_by_its_margin_and_no_more(name):
    margin = MARGIN_OF[name]
    better = {"consistency" if name == "adherence" else "adherence": score(0.1, 0.05, 0.15)}
    assert outcome(paired={**better, name: score(0.0, -margin, 0.01)}) == "promoted"
    assert outcome(paired={**better, name: score(0.0, -margin - 0.0001, 0.01)}) == "refused"


def test_better_adherence_buys_no_loss_of_consistency():
    """The base against a champion that slips on some attributes, as it was measured."""
    paired = {"consistency": score(-0.33, -0.38, -0.28), "adherence": score(0.02, 0.01, 0.03)}
    decision = decide(evidence(baseline="film@v1", paired=paired), EvaluateParams())
    assert decision.outcome == "refused"
    assert decision.reasons == (
        "Consistency is worse than that of film@v1 by more than 0.05: -0.330 [-0.380, -0.280].",
    )


def test_a_refusal_says_whether_it_is_worse_or_may_be():
    surely = decide(evidence(paired={"variety": score(-0.3, -0.4, -0.2)}), PARAMS)
    perhaps = decide(evidence(paired={"variety": score(0.0, -0.4, 0.4)}), PARAMS)
    assert surely.reasons[0].startswith("Variety is worse than that of the base by more than 0.05")
    assert perhaps.reasons[0].startswith("Variety may be worse than")


@pytest.mark.parametrize("name", REQUIRED)
def test_what_must_be_measured_and_was_not_refuses(name):
    decision = decide(evidence(paired={name: None}), PARAMS)
    assert decision.outcome == "refused"
    assert "was not measured" in decision.reasons[0]


def test_identity_counts_only_where_it_was_measured():
    assert outcome(paired={"identity": None}) == "promoted"
    assert outcome(paired={"identity": score(-0.2, -0.3, -0.1)}) == "refused"


@pytest.mark.parametrize(("share", "expected"), [(0.1, "promoted"), (0.1001, "refused")])
def test_memorisation_has_a_bound(share, expected):
    assert outcome(memorized=share) == expected


def test_unmeasured_memorisation_refuses():
    decision = decide(evidence(memorized=None), PARAMS)
    assert decision.outcome == "refused"
    assert "Memorisation was not measured" in decision.reasons[0]


@pytest.mark.parametrize(
    ("share", "expected"), [(None, "promoted"), (1.0, "promoted"), (0.99, "refused")]
)
def test_given_panels_must_all_come_back_untouched(share, expected):
    assert outcome(untouched=share) == expected


@pytest.mark.parametrize(("low", "expected"), [(0.0001, "promoted"), (0.0, "refused")])
@pytest.mark.parametrize("name", ["consistency", "adherence"])
def test_better_means_that_the_interval_excludes_zero(name, low, expected):
    tie = {"consistency": score(0.0, -0.05, 0.05)}
    assert outcome(paired={**tie, name: score(0.1, low, 0.2)}) == expected


def test_a_tie_keeps_the_rival_and_says_so():
    tie = evidence(baseline="film@v1", paired={"consistency": score(0.0, 0.0, 0.0)})
    decision = decide(tie, PARAMS)
    assert decision.outcome == "refused"
    assert decision.reasons[0].startswith("No evidence of improvement over film@v1")
    assert decision.reasons[0].endswith("film@v1 stays.")


def test_better_variety_alone_is_no_improvement():
    tie = {"consistency": score(0.0, -0.05, 0.05), "variety": score(0.3, 0.2, 0.4)}
    assert outcome(paired=tie) == "refused"


def test_a_broken_metric_refuses_whatever_the_scores():
    decision = decide(evidence(broken=("The metric variety is broken here.",)), PARAMS)
    assert decision.outcome == "refused"
    assert decision.reasons == ("The metric variety is broken here.",)


def test_all_reasons_are_told_memorisation_before_scores():
    decision = decide(
        evidence(memorized=0.9, paired={"adherence": score(-0.2, -0.3, -0.1)}), PARAMS
    )
    assert decision.reasons[0].startswith("90.0% of the renders")
    assert decision.reasons[1].startswith("Adherence is worse")


@pytest.mark.parametrize(
    ("prompts", "expected"), [(MIN_PROMPTS, "promoted"), (MIN_PROMPTS - 1, "refused")]
)
@pytest.mark.parametrize("name", ["consistency", "spread"])
def test_few_prompts_decide_nothing(name, prompts, expected):
    few = {name: score(0.2, 0.1, 0.3, prompts=prompts)}
    assert outcome(paired={"consistency": score(0.1, 0.05, 0.15), **few}) == expected


def test_a_refusal_for_few_prompts_says_how_many_it_takes():
    decision = decide(evidence(paired={"variety": score(0.0, 0.0, 0.0, prompts=3)}), PARAMS)
    assert decision.reasons == ("3 prompts were measured on both sides; it takes 8 to decide.",)


@pytest.mark.parametrize(("missing", "expected"), [(2, "promoted"), (3, "refused")])
def test_what_could_not_be_measured_has_a_bound(missing, expected):
    """Two of twenty are a tenth."""
    holes = {"adherence": score(0.0, -0.001, 0.001, prompts=20 - missing, missing=missing)}
    assert outcome(paired=holes) == expected


def test_what_was_lost_beyond_the_cut_is_told():
    decision = decide(evidence(uncapped={"spread": score(-0.1, -0.2, -0.05)}), PARAMS)
    assert decision.outcome == "promoted"
    (spread,) = [check for check in decision.checks if check.name == "spread"]
    assert spread.text.endswith(
        "+0.000 [-0.001, +0.001], counted as far as real sets go (in full -0.100 [-0.200, -0.050])."
    )
