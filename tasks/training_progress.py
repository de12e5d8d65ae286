"""A training under way, as the UI shows it: how far, how well, the latest sheet.

Read from what the child leaves in its folder of running work; nothing is asked of the child.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iclora.store import Store
from schemas.adapter import CheckpointState
from schemas.job import TrainJob
from tasks.artifacts import LiveArtifact, updating
from tasks.gpu_locks import gpu_hours
from tasks.pictures import data_uri

if TYPE_CHECKING:
    from iclora.training.metrics import Row

ROWS = 20
"""Maximum number of rows in the table of losses, spread over the steps so far."""


class TrainingArtifacts:
    """Shows one training.

    Args:
        job: the training.
    """

    def __init__(self, job: TrainJob) -> None:
        self._job, self._store = job, Store(job.store)
        self._began = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._folder: Path | None = None
        self._published = ""
        self._progress = LiveArtifact("progress", f"train-{job.name}")
        self._losses = LiveArtifact("table", f"losses-{job.name}")
        self._sheet = LiveArtifact("image", f"sheet-{job.name}")

    def end(self, place: str) -> None:
        """Tells it where the adapter lies; what is shown next is shown from there, as done.

        The folder of running work is gone by then, and with it the last steps' rows.
        """
        self._published = place

    def show(self) -> None:
        """Brings the artifacts up to date."""
        self._folder = self._folder or find_running(self._store, self._job)
        journal, sheets = self._published_files() if self._published else self._running_files()
        if journal is None:
            return
        from iclora.training.metrics import read_metrics  # late: a flow is imported sooner

        if rows := read_metrics(journal):
            share = 1.0 if self._published else rows[-1]["step"] / self._job.config.train.steps
            said = f"Training so far: {self.sentence(rows)}"
            self._progress.show(round(100 * share, 1), said)
            self._losses.show(loss_table(rows), "Loss and validation, mean since the row before")
        if sheets:
            step = int(sheets[-1].stem.rpartition("-")[2])
            said = f"Latest sheet, step {step}: the base on the left, the adapter on the right"
            self._sheet.show(data_uri(sheets[-1].read_bytes()), said)

    def _running_files(self) -> tuple[Path | None, list[Path]]:
        """The journal and the sheets so far; no journal before there is a checkpoint."""
        if self._folder is None:
            return None, []
        return self._folder / "metrics.jsonl", sorted((self._folder / "renders").glob("*.jpg"))

    def _published_files(self) -> tuple[Path | None, list[Path]]:
        """The journal and the last sheet of the adapter."""
        renders = f"{self._published}/renders"
        last = [name for name in self._store.listdir(renders) if name.endswith(".jpg")][-1:]
        sheets = [self._store.local_path(f"{renders}/{name}") for name in last]
        return self._store.local_path(f"{self._published}/metrics.jsonl"), sheets

    def sentence(self, rows: list[Row]) -> str:
        """Describes the progress of the training in a line."""
        step, steps, now = rows[-1]["step"], self._job.config.train.steps, time.monotonic()
        self._first = self._first or (now, step)
        pieces = [f"step {step} of {steps}"]
        losses = [row["loss"] for row in rows if row.get("loss") is not None]
        if losses:
            recent = losses[-ROWS:]
            pieces.append(f"loss {sum(recent) / len(recent):.4f}")
        found = [row["validation"]["all"] for row in rows if row.get("validation")]
        pieces += [f"validation {found[-1]:.4f}"] if found else []
        since, before = self._first
        if before < step < steps:
            left = (now - since) / (step - before) * (steps - step)
            pieces.append(f"about {timedelta(seconds=round(left))} left")
        return ", ".join([*pieces, gpu_hours(now - self._began)])


@contextmanager
def show_training(job: TrainJob) -> Generator[TrainingArtifacts]:
    """Shows a training while the block runs, and what it came to if the block says so."""
    watch = TrainingArtifacts(job)
    with updating(watch.show):
        yield watch


def find_running(store: Store, job: TrainJob) -> Path | None:
    """The folder of running work of a training: the newest whose checkpoint is of this job."""
    pattern = f"{job.name}-*/checkpoints/step-*/state.json"
    for file in sorted((store.work_folder / "training").glob(pattern), key=_age):
        identity = CheckpointState.from_text(file.read_bytes()).identity
        if identity.name == job.name and identity.config == job.config:
            return file.parents[2]
    return None


def loss_table(rows: list[Row]) -> list[dict[str, Any]]:
    """Some twenty rows: the step, the mean loss since the row before, the validation's loss."""
    losses = [(row["step"], row["loss"]) for row in rows if row.get("loss") is not None]
    checks = {row["step"]: row["validation"]["all"] for row in rows if row.get("validation")}
    table: list[dict[str, Any]] = []
    start = 0
    for number in range(1, ROWS + 1):
        end = len(losses) * number // ROWS
        if end > start:
            part = losses[start:end]
            found = [checks[step] for step, _ in part if step in checks]
            mean = sum(loss for _, loss in part) / len(part)
            table.append(
                {
                    "step": part[-1][0],
                    "loss": round(mean, 4),
                    "validation": round(found[-1], 4) if found else "",
                }
            )
            start = end
    return table


def _age(file: Path) -> float:
    return -file.stat().st_mtime
