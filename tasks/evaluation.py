"""Evaluation as Prefect runs it: a child process, like training."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from iclora.store import Store
from schemas.evaluation import EvaluationReport, ReportRef
from schemas.job import EvaluateJob
from tasks import devices, places
from tasks.child import Work, run_child
from tasks.devices import gpu_hours
from tasks.live import Live, updating
from tasks.names import longest, run_name, stage_task
from tasks.secrets import load_secrets

_DONE = re.compile(r"(draw .+|measure): (\d+) of (\d+)")
"""What ``iclora evaluate`` says of its progress."""


@stage_task(name="plan evaluation", task_run_name="plan evaluation of {adapter}")
def plan_evaluation(
    adapter: str, against: str, dataset: str, store: str, *, promote: bool
) -> EvaluateJob:
    """Resolves the store."""
    home = places.home(store)
    load_secrets(home)
    return EvaluateJob(
        store=Store(home).url, adapter=adapter, against=against, dataset=dataset, promote=promote
    )


@stage_task(name="evaluate", task_run_name="evaluate {job.adapter}", tags=["gpu"])
def evaluate(job: EvaluateJob) -> ReportRef:
    """Renders, scores and decides; a retry goes on with the renders that are there."""
    command = [*_iclora("evaluate"), job.adapter, "--store", job.store]
    command += ["--against", job.against] if job.against else []
    command += ["--dataset", job.dataset] if job.dataset else []
    command += ["--promote"] if job.promote else []
    watch = _Watch(job.adapter)
    with (
        devices.turn(f"the evaluation of {job.adapter}", run_name()) as locks,
        updating(watch.show),
    ):
        log = _log(job.store, f"evaluate-{job.fingerprint}")
        work = Work([*command, "--json"], log, locks, longest(), watch.hear)
        answer = json.loads(run_child(work))
        watch.end()
    return ReportRef.from_json(answer["ref"])


@stage_task(name="promote", task_run_name="promote {adapter}")
def promote(adapter: str, store: str) -> None:
    """Moves CHAMPION."""
    command = [*_iclora("promote"), adapter, "--store", store, "--json"]
    run_child(Work(command, _log(store, f"promote-{adapter}")))


def read_report(report: ReportRef, store: str) -> EvaluationReport:
    """The report behind a reference."""
    folder = f"reports/{report.name}/{report.version}"
    return EvaluationReport.from_text(Store(store).read(f"{folder}/report.json"))


class _Watch:
    """Shows what is being drawn and how much of it is done."""

    def __init__(self, adapter: str) -> None:
        self._began = time.monotonic()
        self._line, self._share = "loading", 0.0
        self._progress = Live("progress", f"evaluate-{adapter}")

    def hear(self, line: str) -> None:
        if found := _DONE.fullmatch(line):
            self._line, self._share = line, int(found[2]) / max(1, int(found[3]))

    def end(self) -> None:
        """It is done, and what was found done was never heard of."""
        self._line, self._share = "measured and decided", 1.0

    def show(self) -> None:
        said = f"Evaluation so far: {self._line}; {gpu_hours(time.monotonic() - self._began)}"
        self._progress.show(round(100 * self._share, 1), said)


def _iclora(command: str) -> list[str]:
    return [sys.executable, "-m", "iclora", command]


def _log(store: str, name: str) -> Path:
    return Store(store).work / "jobs" / f"{name}.log"
