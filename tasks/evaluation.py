"""Evaluation as Prefect runs it: a child process, like training."""

from __future__ import annotations

import json
import sys

from iclora.store import Store
from schemas.evaluation import EvaluationReport, ReportRef
from schemas.job import EvaluateJob
from tasks.child import run_child
from tasks.names import stage_task


@stage_task(name="evaluate", task_run_name="evaluate {job.adapter}", tags=["gpu"])
def evaluate(job: EvaluateJob) -> ReportRef:
    """Renders, scores and decides; a retry goes on with the renders that are there."""
    command = [sys.executable, "-m", "iclora", "evaluate", job.adapter, "--store", job.store]
    command += ["--against", job.against] if job.against else []
    command += ["--dataset", job.dataset] if job.dataset else []
    command += ["--promote"] if job.promote else []
    answer = json.loads(run_child([*command, "--json"]))
    return ReportRef.from_json(answer["ref"])


@stage_task(name="promote", task_run_name="promote {adapter}")
def promote(adapter: str, store: str) -> None:
    """Moves CHAMPION."""
    run_child([sys.executable, "-m", "iclora", "promote", adapter, "--store", store, "--json"])


def read_report(report: ReportRef, store: str) -> EvaluationReport:
    """The report behind a reference."""
    folder = f"reports/{report.name}/{report.version}"
    return EvaluationReport.from_text(Store(store).read(f"{folder}/report.json"))
