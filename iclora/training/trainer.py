"""Training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from iclora.training.checkpoint import (
    RemoteCheckpoints,
    checkpoints,
    prune,
    restore,
    save_checkpoint,
    step_of,
)
from iclora.training.metrics import MetricsLog
from iclora.training.perf import peak_flops, peak_memory
from iclora.training.run_inputs import free_memory
from iclora.training.signals import StopRequest, TrainingBroken, TrainingInterrupted
from iclora.training.train_step import StepContext, TrainStep
from schemas.adapter import RunIdentity, TrainingProgress
from schemas.training import StepReport

log = logging.getLogger(__name__)

OnStep = Callable[[StepReport], None]
"""Callback that the first process runs after every step."""


class Trainer:
    """Training loop with validation, checkpoints, and recovery from non-finite losses.

    Attributes:
        context: model, optimizer, and data of the steps.
        folder: folder of the running work, with ``checkpoints/`` and ``metrics.jsonl``.
        progress: current progress of the run.
        resumed_from: step at which this process started.
        train_step: forward and backward passes of a step, with their counters.
        validation: latest validation losses.
        loss: loss of the last step.
    """

    def __init__(
        self,
        context: StepContext,
        identity: RunIdentity,
        remote: RemoteCheckpoints,
        *,
        validate: Callable[[], dict[str, float]],
        draw: Callable[[int], None],
    ) -> None:
        """Restores the newest checkpoint, or writes one of step 0.

        Args:
            context: model, optimizer, and data of the steps.
            identity: configuration and version of the run.
            remote: folder of the running work, and its sync to the store.
            validate: callback that returns val losses of the moving average; empty without a val
                split.
            draw: callback that renders the sample sheet of a step.
        """
        self.context, self.folder = context, remote.folder
        self._identity, self._train = identity, identity.config.train
        self._remote, self._validate, self._draw_sheet = remote, validate, draw
        self._optimizer, self._dist = context.optimizer, context.dist
        self._checkpoints = self.folder / "checkpoints"
        self.progress = self._resume()
        self.resumed_from = self.progress.step
        self.train_step = TrainStep(context, self._train)
        self.validation: dict[str, float] = {}
        self.loss = 0.0

    def train(self, request: StopRequest, on_step: OnStep) -> float:
        """Trains to the last step.

        Returns:
            Elapsed time in seconds.

        Raises:
            TrainingInterrupted: a stop was requested and a checkpoint was written.
            TrainingBroken: too many losses were not finite.
        """
        began = time.perf_counter()
        metrics = None
        if self._dist.is_main:
            metrics = MetricsLog(self.folder / "metrics.jsonl", self.progress.step)
        try:
            while self.progress.step < self._train.steps:
                self._step(metrics)
                if self._dist.is_main:
                    on_step(self._report(began))
                self._after_step(request, metrics)
        finally:
            self.context.loader.close()
            if metrics:
                metrics.close()
        return time.perf_counter() - began

    def _resume(self) -> TrainingProgress:
        """Restores every process from the newest checkpoint; a new run writes one first."""

        def newest() -> Path:
            self._remote.pull()
            if saved := checkpoints(self._checkpoints):
                return saved[-1]
            start = TrainingProgress(step=0)
            return save_checkpoint(self._checkpoints, self._optimizer, self._identity, start)

        progress = self._restore(self._dist.first(newest))
        if progress.step:
            log.info("going on after step %d", progress.step)
        return progress

    def _restore(self, checkpoint: Path) -> TrainingProgress:
        return restore(checkpoint, self._optimizer, self._identity, self._dist)

    def _step(self, metrics: MetricsLog | None) -> None:
        """Runs one step, then updates the adapter or skips a non-finite result."""
        step = self.progress.step
        result = self.train_step.run(step)
        good = math.isfinite(result.loss) and math.isfinite(result.norm)
        row: dict[str, Any] = {"step": step + 1, "loss": result.loss if good else None}
        self.loss = result.loss
        if good:
            rate = self._optimizer.update(step)
            self.progress = self.progress.model_copy(update={"step": step + 1, "bad_in_a_row": 0})
            row |= {"norm": result.norm, "lr": rate, "panels": result.panels}
        else:
            self._skip(step)
        if metrics:
            metrics.write(row)

    def _skip(self, step: int) -> None:
        """Skips a step and rolls back after several consecutive skips.

        The step number still advances, because the same step from the same weights would fail
        again.
        """
        limits = self._train.nonfinite
        change = {
            "step": step + 1,
            "skipped": self.progress.skipped + 1,
            "bad_in_a_row": self.progress.bad_in_a_row + 1,
        }
        self.progress = self.progress.model_copy(update=change)
        log.warning("step %d has no finite loss and is skipped", step + 1)
        if self.progress.skipped >= limits.stop_after:
            raise TrainingBroken(
                f"{self.progress.skipped} steps had no finite loss, the last is step {step + 1}: "
                f"lower train.optimizer.lr or use train.precision = 'fp32'"
            )
        if self.progress.bad_in_a_row >= limits.roll_back_after:
            self._roll_back()

    def _roll_back(self) -> None:
        def newest_regular() -> Path:
            saved = checkpoints(self._checkpoints)
            # Ignore checkpoints written by a stop: an uninterrupted run would not have them.
            regular = [path for path in saved if step_of(path) % self._train.save_every == 0]
            return (regular or saved)[-1]

        checkpoint = self._dist.first(newest_regular)
        self._restore(checkpoint)
        log.warning("back to the weights of step %d", step_of(checkpoint))
        rollbacks = self.progress.rollbacks + 1
        self.progress = self.progress.model_copy(update={"bad_in_a_row": 0, "rollbacks": rollbacks})

    def _after_step(self, request: StopRequest, metrics: MetricsLog | None) -> None:
        """Runs validation, sampling, and checkpointing when due, and handles stop requests."""
        step, train, dist = self.progress.step, self._train, self._dist
        last = step == train.steps
        if train.validate_every and (last or step % train.validate_every == 0):
            self.validation = self._validate()
            if metrics and self.validation:
                metrics.write({"step": step, "validation": self.validation})
        draws = train.sample_every and (dist.is_main or dist.is_sharded)
        if draws and (last or step % train.sample_every == 0):
            self._draw(step)
        stopping = dist.any_rank(condition=request.requested) and not last
        if stopping or last or step % train.save_every == 0:
            with dist.together():
                if metrics:
                    metrics.sync()
                    save_checkpoint(
                        self._checkpoints, self._optimizer, self._identity, self.progress
                    )
                    prune(self._checkpoints, train.keep_checkpoints, train.save_every)
                    self._remote.push()
        if stopping:
            raise TrainingInterrupted(
                f"stopped after step {step} of {train.steps}; the same command goes on from there"
            )

    def _draw(self, step: int) -> None:
        """Renders a sheet, skipping it if memory runs out."""
        try:
            self._draw_sheet(step)
        except torch.OutOfMemoryError as error:
            if self._dist.is_sharded:  # other processes are blocked in the middle of a pass
                raise
            log.warning("no sheet of step %d, there is no memory for it: %s", step, error)
        else:
            return
        free_memory()  # here, because the handled error holds the sheet's tensors
        if self._train.offload:  # the sheet moved it to the CPU
            self.context.transformer.to(self._dist.device)

    def utilisation(self, seconds: float) -> float:
        """Computes the fraction of peak FLOPs this process achieved; -1 if the peak is unknown."""
        peak = peak_flops(self._dist.device)
        return self.train_step.flops / seconds / peak if peak > 0 else peak

    def _report(self, began: float) -> StepReport:
        done = self.progress.step - self.resumed_from
        seconds = time.perf_counter() - began
        return StepReport(
            step=self.progress.step,
            steps=self._train.steps,
            loss=self.loss,
            tokens_per_second=self.train_step.counts["tokens"] / seconds,
            utilisation=self.utilisation(seconds),
            memory=peak_memory(self._dist.device),
            seconds_left=seconds / done * (self._train.steps - self.progress.step),
        )
