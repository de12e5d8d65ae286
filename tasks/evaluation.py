"""Evaluation as Prefect runs it: a child process, like training."""

from __future__ import annotations

import json
import sys
import time

from iclora.evaluate import promote_adapter
from iclora.log_lines import StepProgress
from iclora.models.loaded import unload_models
from iclora.store import Store
from schemas.evaluation import ReportRef
from schemas.job import EvaluateJob
from tasks import environment
from tasks.artifacts import LiveArtifact, updating
from tasks.gpu_locks import acquire_devices, gpu_hours
from tasks.prefect_defaults import run_name, stage_task, time_limit
from tasks.subprocess_task import run_subprocess


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
    """Renders, scores and decides in a child process; a retry reuses the renders that are there."""
    unload_models()  # of a build before it in this process: the child needs the memory
    command = [sys.executable, "-m", "iclora", "evaluate", job.adapter, "--store", job.store]
    command += ["--against", job.against] if job.against else []
    command += ["--dataset", job.dataset] if job.dataset else []
    command += ["--promote"] if job.promote else []
    artifact = EvaluationArtifact(job.adapter)
    with (
        acquire_devices(f"the evaluation of {job.adapter}", run_name()) as locks,
        updating(artifact.show),
    ):
        answer = run_subprocess(
            [*command, "--json"],
            Store(job.store).work_folder / "jobs" / f"evaluate-{job.fingerprint}.log",
            locks=locks,
            seconds=time_limit(),
            on_progress=artifact.advance,
        )
        artifact.end()
    return ReportRef.from_json(json.loads(answer)["ref"])


@stage_task(name="promote", task_run_name="promote {adapter}")
def promote(adapter: str, store: str) -> None:
    """Makes an adapter the champion, if its report compared it with the current one.

    Raises:
        UserError: it did not, or the rule has changed; the text says what to evaluate.
    """
    promote_adapter(Store(store), adapter)


class EvaluationArtifact:
    """Artifact that shows the current step of an evaluation and its progress."""

    def __init__(self, adapter: str) -> None:
        self._start = time.monotonic()
        self._step, self._fraction = "loading", 0.0
        self._artifact = LiveArtifact("progress", f"evaluate-{adapter}")

    def advance(self, progress: StepProgress) -> None:
        """Takes the progress that the child reports."""
        self._step, self._fraction = str(progress), progress.done / max(1, progress.total)

    def end(self) -> None:
        """Marks the evaluation as complete: what was there already reported no progress."""
        self._step, self._fraction = "measured and decided", 1.0

    def show(self) -> None:
        """Brings the artifact up to date."""
        hours = gpu_hours(time.monotonic() - self._start)
        self._artifact.show(
            round(100 * self._fraction, 1), f"Evaluation so far: {self._step}; {hours}"
        )
