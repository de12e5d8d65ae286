from __future__ import annotations

from iclora.evaluation import evaluate_adapter, read_report
from iclora.evaluation.promote import champion_of


def test_an_adapter_that_changes_nothing_is_refused_for_want_of_evidence(world):
    world.add_adapter("v1", scale=0.0)
    ref = evaluate_adapter(world.store, "film", promote=True)
    report = read_report(world.store, ref)
    assert ref.outcome == "refused"
    assert "No evidence of improvement over the base" in report.decision.reasons[-1]
    assert champion_of(world.store, "film") == ""
    assert report.paired["base"]["adherence"].value == 0.0
    assert report.paired["base"]["adherence"].high == 0.0
