"""Progress of a training in the UI, read from what the child leaves in its work folder."""

from __future__ import annotations

import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iclora.store import Store
from schemas.adapter import AdapterRef, CheckpointState
from schemas.job import TrainJob
from tasks.artifacts import LiveArtifact, data_uri
from tasks.gpu_locks import gpu_hours

if TYPE_CHECKING:
    from iclora.training.metrics import Row

ROWS = 20
"""Maximum number of rows in the table of losses, spread over the steps so far."""


class TrainingArtifacts:
    """Artifacts of one training: percentage, losses and the latest sheet."""

    def __init__(self, job: TrainJob) -> None:
        self._job, self._store = job, Store(job.store)
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None  # time and number of the first step seen
        self._folder: Path | None = None
        self._adapter: AdapterRef | None = None
        self._progress = LiveArtifact("progress", f"train-{job.name}")
        self._losses = LiveArtifact("table", f"losses-{job.name}")
        self._sheet = LiveArtifact("image", f"sheet-{job.name}")

    def end(self, adapter: AdapterRef) -> None:
        """Shows the published adapter from now on, as done: the work folder is gone."""
        self._adapter = adapter

    def show(self) -> None:
        """Brings the artifacts up to date."""
        from iclora.training.metrics import read_metrics  # late: a flow is imported sooner

        if self._adapter:
            renders = f"{self._adapter.path}/renders"
            names = [name for name in self._store.listdir(renders) if name.endswith(".jpg")]
            sheets = [self._store.local_path(f"{renders}/{name}") for name in names[-1:]]
            metrics = self._store.local_path(f"{self._adapter.path}/metrics.jsonl")
        else:
            self._folder = self._folder or find_running(self._store, self._job)
            if self._folder is None:  # there is no checkpoint yet
                return
            sheets = sorted((self._folder / "renders").glob("*.jpg"))
            metrics = self._folder / "metrics.jsonl"
        if rows := read_metrics(metrics):
            fraction = 1.0 if self._adapter else rows[-1]["step"] / self._job.config.train.steps
            self._progress.show(round(100 * fraction, 1), f"Training so far: {self.describe(rows)}")
            self._losses.show(loss_table(rows), "Loss and validation, mean since the row before")
        if sheets:
            step = int(sheets[-1].stem.rpartition("-")[2])
            self._sheet.show(
                data_uri(sheets[-1].read_bytes()),
                f"Latest sheet, step {step}: the base on the left, the adapter on the right",
            )

    def describe(self, rows: list[Row]) -> str:
        """Describes the progress in a line: step, losses, time left and GPU hours."""
        step, steps, now = rows[-1]["step"], self._job.config.train.steps, time.monotonic()
        self._first = self._first or (now, step)
        parts = [f"step {step} of {steps}"]
        if losses := [row["loss"] for row in rows if row.get("loss") is not None][-ROWS:]:
            parts.append(f"loss {sum(losses) / len(losses):.4f}")
        if validations := [row["validation"]["all"] for row in rows if row.get("validation")]:
            parts.append(f"validation {validations[-1]:.4f}")
        first_time, first_step = self._first
        if first_step < step < steps:
            left = (now - first_time) / (step - first_step) * (steps - step)
            parts.append(f"about {timedelta(seconds=round(left))} left")
        return ", ".join([*parts, gpu_hours(now - self._start)])


def find_running(store: Store, job: TrainJob) -> Path | None:
    """Finds the work folder of a training: the newest whose checkpoint is of this job."""
    states = (store.work_folder / "training").glob(f"{job.name}-*/checkpoints/step-*/state.json")
    for file in sorted(states, key=lambda file: file.stat().st_mtime, reverse=True):
        identity = CheckpointState.from_text(file.read_bytes()).identity
        if identity.name == job.name and identity.config == job.config:
            return file.parents[2]
    return None


def loss_table(rows: list[Row]) -> list[dict[str, Any]]:
    """Sums up the metrics in ROWS rows: step, mean loss since the row before, last validation."""
    losses = [(row["step"], row["loss"]) for row in rows if row.get("loss") is not None]
    validations = {row["step"]: row["validation"]["all"] for row in rows if row.get("validation")}
    table: list[dict[str, Any]] = []
    bounds = [len(losses) * number // ROWS for number in range(ROWS + 1)]
    for start, end in pairwise(bounds):
        if start == end:
            continue
        part = losses[start:end]
        checks = [validations[step] for step, _ in part if step in validations]
        table.append(
            {
                "step": part[-1][0],
                "loss": round(sum(loss for _, loss in part) / len(part), 4),
                "validation": round(checks[-1], 4) if checks else "",
            }
        )
    return table
