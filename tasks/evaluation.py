"""Evaluation as Prefect runs it: a child process, like training."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from iclora.models.loaded import unload_models
from iclora.store import Store
from schemas.evaluation import EvaluationReport, ReportRef
from schemas.job import EvaluateJob
from tasks import environment, gpu_locks
from tasks.artifacts import LiveArtifact, updating
from tasks.gpu_locks import gpu_hours
from tasks.prefect_defaults import run_name, stage_task, time_limit
from tasks.subprocess_task import ChildCommand, run_subprocess

_PROGRESS_LINE = re.compile(r"(draw .+|measure): (\d+) of (\d+)")
"""Progress lines of ``iclora evaluate``."""


@stage_task(name="plan evaluation", task_run_name="plan evaluation of {adapter}")
def plan_evaluation(
    adapter: str, against: str, dataset: str, store: str, *, promote: bool
) -> EvaluateJob:
    """Resolves the store."""
    home = environment.resolve_store(store)
    environment.load_secrets(home)
    return EvaluateJob(
        store=Store(home).url, adapter=adapter, against=against, dataset=dataset, promote=promote
    )


@stage_task(name="evaluate", task_run_name="evaluate {job.adapter}", tags=["gpu"])
def evaluate(job: EvaluateJob) -> ReportRef:
    """Renders, scores and decides; a retry goes on with the renders that are there."""
    unload_models()  # of a build before it in this process: the child needs the memory
    command = [*_iclora("evaluate"), job.adapter, "--store", job.store]
    command += ["--against", job.against] if job.against else []
    command += ["--dataset", job.dataset] if job.dataset else []
    command += ["--promote"] if job.promote else []
    watch = _EvaluationArtifact(job.adapter)
    with (
        gpu_locks.acquire_devices(f"the evaluation of {job.adapter}", run_name()) as locks,
        updating(watch.show),
    ):
        log = _log(job.store, f"evaluate-{job.fingerprint}")
        work = ChildCommand([*command, "--json"], log, locks, time_limit(), watch.on_line)
        answer = json.loads(run_subprocess(work))
        watch.end()
    return ReportRef.from_json(answer["ref"])


@stage_task(name="promote", task_run_name="promote {adapter}")
def promote(adapter: str, store: str) -> None:
    """Makes an adapter the champion, if its report compared it with the one in force.

    Raises:
        UserError: it did not, or the rule is another one now; the text says what to evaluate.
    """
    command = [*_iclora("promote"), adapter, "--store", store, "--json"]
    run_subprocess(ChildCommand(command, _log(store, f"promote-{adapter}")))


def read_report(report: ReportRef, store: str) -> EvaluationReport:
    """The report behind a reference."""
    folder = report.path
    return EvaluationReport.from_text(Store(store).read(f"{folder}/report.json"))


class _EvaluationArtifact:
    """Shows what is being drawn and how much of it is done."""

    def __init__(self, adapter: str) -> None:
        self._began = time.monotonic()
        self._line, self._share = "loading", 0.0
        self._progress = LiveArtifact("progress", f"evaluate-{adapter}")

    def on_line(self, line: str) -> None:
        if found := _PROGRESS_LINE.fullmatch(line):
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
    return Store(store).work_folder / "jobs" / f"{name}.log"
