from __future__ import annotations

import numpy as np
import pytest

from iclora.evaluation import metrics
from iclora.evaluation.controls import broken_metrics, remarks, repeated, shuffled
from schemas.evaluation import ArmReport, Score


def arm(name, **scores):
    measured = {
        key: Score(value=value, low=value, high=value, prompts=9) for key, value in scores.items()
    }
    return ArmReport(arm=name, label=f"the {name}", renders=9, scores=measured)


def arms(**changes):
    results = {
        "adapter": arm("adapter", consistency=0.7, variety=0.8, adherence=0.3, structure=0.9),
        "base": arm("base", consistency=0.5, variety=0.7, adherence=0.2, structure=0.8),
        "repeated": arm("repeated", consistency=1.0, variety=0.0, adherence=0.1),
        "shuffled": arm("shuffled", consistency=0.2, variety=0.75, adherence=0.1),
    }
    return {**results, **changes}


def test_repeated_takes_the_first_panel_of_each_set():
    panels = np.arange(2 * 2 * 3).reshape(2, 2, 3, 1)
    assert repeated(panels)[:, :, :, 0].tolist() == [[[0] * 3, [3] * 3], [[6] * 3, [9] * 3]]


@pytest.mark.parametrize("prompts", [4, 9])
def test_shuffled_panels_are_strangers_in_their_place(prompts):
    origin = np.arange(prompts)[:, None, None].repeat(2, axis=1).repeat(3, axis=2)
    position = np.broadcast_to(np.arange(3), origin.shape)
    moved, kept = shuffled(origin), shuffled(position)
    assert (kept == position).all()
    for prompt in range(prompts):
        homes = moved[prompt, 0].tolist()
        assert prompt not in homes
        assert len(set(homes)) == 3


def test_the_controls_are_at_the_ends_of_what_they_control():
    rng = np.random.default_rng(0)
    scenes = rng.normal(size=(12, 1, 1, 16))
    panels = scenes + 0.5 * rng.normal(size=(12, 2, 3, 16))
    panels /= np.linalg.norm(panels, axis=-1, keepdims=True)
    real, copies, mixed = (
        metrics.consistency(p).mean() for p in (panels, repeated(panels), shuffled(panels))
    )
    assert mixed < real < copies == pytest.approx(1.0)


def test_sound_controls_break_nothing():
    assert broken_metrics(arms()) == ()


@pytest.mark.parametrize(
    ("score", "value"), [("consistency", 1.01), ("variety", -0.01)], ids=["too good", "too bad"]
)
@pytest.mark.parametrize("who", ["adapter", "base", "shuffled"])
def test_an_arm_beyond_the_repeated_panel_breaks_the_metric(score, value, who):
    scores = {"consistency": 0.5, "variety": 0.5, score: value}
    results = broken_metrics(arms(**{who: arm(who, **scores)}))
    assert [remark.score for remark in results] == [score]
    assert results[0].broken
    assert f"the {who} has {value:.3f}" in results[0].text


def test_an_adapter_that_repeats_panels_does_not_break_the_metric():
    copy = arm("adapter", consistency=1.0, variety=0.0)
    assert broken_metrics(arms(adapter=copy)) == ()


def test_a_metric_that_cannot_tell_shuffled_from_repeated_is_broken():
    results = broken_metrics(arms(shuffled=arm("shuffled", consistency=1.0, variety=0.0)))
    assert {remark.score for remark in results} == {"consistency", "variety"}


def test_an_unmeasured_control_vouches_for_nothing():
    results = broken_metrics(arms(repeated=arm("repeated", consistency=1.0)))
    assert [(remark.score, remark.broken) for remark in results] == [("variety", True)]


def test_a_control_above_the_adapter_is_told_in_words():
    results = remarks(arms(real=arm("real", adherence=0.5, variety=0.1)))
    assert [(remark.control, remark.score) for remark in results] == [("real", "adherence")]
    assert results[0].text == "Real sets beat the adapter in adherence: 0.500 against 0.300."


def test_a_control_that_is_above_by_noise_is_told_as_such():
    near = {"adherence": Score(value=0.31, low=0.28, high=0.34, prompts=9)}
    base = ArmReport(arm="base", label="the base", renders=9, scores=near)
    results = remarks(arms(base=base))
    assert results[0].text.endswith("0.310 against 0.300; their intervals overlap.")


def test_an_adapter_that_always_draws_one_picture_does_not_break_the_metric():
    """Its shuffled panels are its repeated ones; the base shows that the score can tell."""
    one = {
        name: arm(name, consistency=1.0, variety=0.0)
        for name in ("adapter", "repeated", "shuffled")
    }
    assert broken_metrics(arms(**one)) == ()
    blind = {"base": arm("base", consistency=1.0, variety=0.0)}
    assert len(broken_metrics(arms(**one, **blind))) == 2


def test_the_base_above_the_adapter_in_consistency_is_told_and_equality_is_not():
    base = arm("base", consistency=0.9, variety=0.8, adherence=0.3)
    assert [(r.control, r.score) for r in remarks(arms(base=base))] == [("base", "consistency")]
