"""Adapters that deserve a refusal, trained for real on the miniature's own base.

An adapter that learnt a handful of sets by heart, and one that learnt to draw one panel three
times: both are better than the base in something, and must be refused for what they are.
"""

from __future__ import annotations

import pytest

from iclora.evaluate import evaluate_adapter, read_report
from iclora.presets import load_config
from iclora.store import Store
from iclora.train import train_adapter

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = {"train.steps": 450}
"""Half of the preset's: enough for what is wrong with these adapters."""


@pytest.fixture(scope="module")
def miniature():
    """The configuration of a small evaluation on the trained base."""
    return load_config("miniature", {"evaluate.max_prompts": 12, "evaluate.conditional_prompts": 0})


@pytest.fixture(scope="module")
def judged(tmp_path_factory, miniature, publish_scenes):
    """Trains an adapter on scenes and gives the report against the base, on other scenes."""
    store = Store(str(tmp_path_factory.mktemp("real") / "store"))
    publish_scenes(store, miniature, "scenes", train=range(24), val=range(60, 84))

    def judge(name, *, train, repeat=False):
        publish_scenes(store, miniature, name, train=train, val=(), repeat=repeat)
        config = load_config("miniature", STEPS)
        train_adapter(store, name, config, name)
        return read_report(store, evaluate_adapter(store, name, miniature, dataset="scenes"))

    return judge


def test_an_adapter_that_knows_a_few_sets_by_heart_is_refused_for_it(judged):
    report = judged("heart", train=range(4))
    assert report.decision.outcome == "refused"
    assert any("closer to a training set" in reason for reason in report.decision.reasons)
    assert report.scores["memorised"].value > report.params.max_memorized


def test_an_adapter_that_repeats_a_panel_is_refused_for_want_of_variety(judged):
    report = judged("copy", train=range(24), repeat=True)
    assert report.decision.outcome == "refused"
    assert any(reason.startswith("Variety is worse") for reason in report.decision.reasons)
    assert report.paired["base"]["consistency"].low > 0
