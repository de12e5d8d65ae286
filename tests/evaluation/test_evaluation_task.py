"""Evaluation and promotion as their Prefect tasks run them."""

from __future__ import annotations

import pytest
from prefect import flow

from iclora.errors import UserError
from iclora.evaluation.promotion import champion_of
from schemas.job import EvaluateJob
from tasks import evaluation


@pytest.mark.usefixtures("prefect")
def test_the_child_reports_its_progress_and_its_report(world, monkeypatch):
    world.add_adapter("v1", scale=0.0)
    reported = []
    advance = evaluation.EvaluationArtifact.advance

    def record(self, progress):
        reported.append(progress)
        advance(self, progress)

    monkeypatch.setattr(evaluation.EvaluationArtifact, "advance", record)

    @flow
    def evaluates():
        return evaluation.evaluate(EvaluateJob(store=world.store.url, adapter="film@v1"))

    ref = evaluates()
    assert world.store.exists(f"{ref.path}/report.json")
    steps = dict.fromkeys(progress.step for progress in reported)
    assert len(steps) > 2
    for step in steps:
        last = [progress for progress in reported if progress.step == step][-1]
        assert last.done == last.total


def test_a_report_promotes_and_a_missing_adapter_is_a_users_mistake(found_better):
    world, _ = found_better
    evaluation.promote.fn("film@v2", world.store.url)
    assert champion_of(world.store, "film") == "v2"
    with pytest.raises(UserError, match="film@v1 was never evaluated"):
        evaluation.promote.fn("film@v1", world.store.url)
    with pytest.raises(UserError, match="no adapter 'none'"):
        evaluation.promote.fn("none", world.store.url)
