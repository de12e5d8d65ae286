"""The steps of a training."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from iclora.training.checkpoint import checkpoints, prune, restore, save_checkpoint, step_of
from iclora.training.engine import Engine, Machine
from iclora.training.journal import Journal
from iclora.training.learner import learning_rate
from iclora.training.mirror import Mirror
from iclora.training.speed import peak_flops, peak_memory
from iclora.training.stop import StopRequest, TrainingBroken, TrainingInterrupted
from schemas.adapter import Progress, RunIdentity
from schemas.training import StepReport

log = logging.getLogger(__name__)

Watch = Callable[[StepReport], None]
"""Called by the first process after every step."""


class Parts(NamedTuple):
    """Everything the loop works with."""

    machine: Machine
    identity: RunIdentity
    folder: Path
    """Of the running work: ``checkpoints/`` and ``metrics.jsonl``."""

    validate: Callable[[], dict[str, float]]
    """Losses on the val split with the moving average; empty without one."""

    draw: Callable[[int], None]
    """Writes the sheet of a step."""

    mirror: Mirror
    """Where checkpoints go besides."""


class Loop:
    """Runs steps and keeps them safe.

    Attributes:
        progress: where the run stands.
        engine: measures the steps.
        validation: the last validation losses.
        loss: of the last step.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._learner, self._team = parts.machine.learner, parts.machine.team
        self._train = parts.identity.config.train
        self._checkpoints = parts.folder / "checkpoints"
        self.progress = self._resume()
        self.resumed_from = self.progress.step
        self.engine = Engine(parts.machine, self._train)
        self.validation: dict[str, float] = {}
        self.loss = 0.0

    def run(self, request: StopRequest, watch: Watch) -> float:
        """Trains to the last step.

        Returns:
            The seconds it took.

        Raises:
            TrainingInterrupted: after saving, when asked to stop.
            TrainingBroken: too many losses that are not finite.
        """
        began = time.perf_counter()
        journal = self._journal()
        try:
            while self.progress.step < self._train.steps:
                self._one(journal)
                if self._team.leads:
                    watch(self._report(began))
                self._mind(request, journal)
        finally:
            self._parts.machine.feed.close()
            if journal:
                journal.close()
        return time.perf_counter() - began

    def _resume(self) -> Progress:
        if self._team.leads:
            self._parts.mirror.pull()
        self._team.wait()
        found = checkpoints(self._checkpoints)
        if not found:
            start = Progress(step=0)
            if self._team.leads:
                save_checkpoint(self._checkpoints, self._learner, self._parts.identity, start)
            self._team.wait()
            return start
        progress = restore(found[-1], self._learner, self._parts.identity)
        self._team.wait()
        if progress.step:
            log.info("going on after step %d", progress.step)
        return progress

    def _journal(self) -> Journal | None:
        if not self._team.leads:
            return None
        return Journal(self._parts.folder / "metrics.jsonl", self.progress.step)

    def _one(self, journal: Journal | None) -> None:
        """One step: measure, then learn, or note that it was bad."""
        step = self.progress.step
        result = self.engine.measure(step)
        good = math.isfinite(result.loss) and math.isfinite(result.norm)
        row: dict[str, Any] = {"step": step + 1, "loss": result.loss if good else None}
        self.loss = result.loss
        if good:
            self._learner.update(step)
            self.progress = self.progress.model_copy(update={"step": step + 1, "bad_in_a_row": 0})
            rate = learning_rate(self._train.optimizer, step, self._train.steps)
            row |= {"norm": result.norm, "lr": rate, "panels": result.panels}
        else:
            self._skip(step)
        if journal:
            journal.write(row)

    def _skip(self, step: int) -> None:
        """Leaves the step out; after several in a row, goes back to safer weights.

        The step's number goes on even then, because the same step from the same weights would
        fail the same way.
        """
        before, faults = self.progress, self._train.faults
        change = {
            "step": step + 1,
            "skipped": before.skipped + 1,
            "bad_in_a_row": before.bad_in_a_row + 1,
        }
        self.progress = before.model_copy(update=change)
        log.warning("step %d has no finite loss and is skipped", step + 1)
        if self.progress.skipped >= faults.stop_after:
            raise TrainingBroken(
                f"{self.progress.skipped} steps had no finite loss, the last is step {step + 1}: "
                f"lower train.optimizer.lr or use train.precision = 'fp32'"
            )
        if self.progress.bad_in_a_row >= faults.roll_back_after:
            self._roll_back()

    def _roll_back(self) -> None:
        found = checkpoints(self._checkpoints)
        # A checkpoint that a stop left is no place to go back to: a run without it has none there.
        regular = [path for path in found if step_of(path) % self._train.save_every == 0]
        safe = (regular or found)[-1]
        restore(safe, self._learner, self._parts.identity)
        log.warning("back to the weights of step %d", step_of(safe))
        rollbacks = self.progress.rollbacks + 1
        self.progress = self.progress.model_copy(update={"bad_in_a_row": 0, "rollbacks": rollbacks})

    def _mind(self, request: StopRequest, journal: Journal | None) -> None:
        """What is due between steps: validation, a checkpoint, an order to stop."""
        step, train, team = self.progress.step, self._train, self._team
        last = step == train.steps
        if train.validate_every and (last or step % train.validate_every == 0):
            self.validation = self._parts.validate()
            if journal and self.validation:
                journal.write({"step": step, "validation": self.validation})
        draws = train.sample_every and (team.leads or team.shards)
        if draws and (last or step % train.sample_every == 0):
            self._parts.draw(step)
        stopping = team.any(asked=request.asked) and not last
        if stopping or last or step % train.save_every == 0:
            if journal:
                journal.sync()
                save_checkpoint(
                    self._checkpoints, self._learner, self._parts.identity, self.progress
                )
                prune(self._checkpoints, train.keep_checkpoints, train.save_every)
                self._parts.mirror.push()
            team.wait()
        if stopping:
            raise TrainingInterrupted(
                f"stopped after step {step} of {train.steps}; the same command goes on from there"
            )

    def utilisation(self, seconds: float) -> float:
        """This process's operations against what its device could have done; -1 if unknown."""
        peak = peak_flops(self._team.device)
        return self.engine.flops / seconds / peak if peak > 0 else peak

    def _report(self, began: float) -> StepReport:
        done = self.progress.step - self.resumed_from
        seconds = time.perf_counter() - began
        return StepReport(
            step=self.progress.step,
            steps=self._train.steps,
            loss=self.loss,
            tokens_per_second=self.engine.counts["tokens"] / seconds,
            utilisation=self.utilisation(seconds),
            memory=peak_memory(self._team.device),
            seconds_left=seconds / done * (self._train.steps - self.progress.step),
        )
