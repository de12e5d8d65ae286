"""The steps of a training."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from iclora.models.families import Family
from iclora.training.checkpoint import checkpoints, prune, restore, save_checkpoint, step_of
from iclora.training.feed import Feed, to_device
from iclora.training.journal import Journal
from iclora.training.learner import Learner, learning_rate
from iclora.training.objective import MicroBatch, losses_of, panel_losses
from iclora.training.stop import StopRequest, TrainingBroken, TrainingInterrupted
from iclora.training.team import Team
from schemas.adapter import Progress, RunIdentity
from schemas.training import StepReport

log = logging.getLogger(__name__)

Watch = Callable[[StepReport], None]
"""Called by the first process after every step."""


class Parts(NamedTuple):
    """Everything the loop works with."""

    family: Family
    transformer: Any
    learner: Learner
    feed: Feed
    team: Team
    identity: RunIdentity
    folder: Path
    """Of the running work: ``checkpoints/`` and ``metrics.jsonl``."""

    panels: int
    """The most on a canvas."""

    validate: Callable[[], dict[str, float]]
    """Losses on the val split with the moving average; empty without one."""


class StepResult(NamedTuple):
    """What a step measured, summed over the processes."""

    loss: float
    panels: list[float]
    """Mean squared error of each panel; -1 where nothing was measured."""

    norm: float
    tokens: int
    """Of pictures and captions."""


class Loop:
    """Runs steps and keeps them safe.

    Attributes:
        progress: where the run stands.
        counts: of this stretch: dropped captions, given panels, tokens.
        validation: the last validation losses.
        waited: seconds spent waiting for the feed.
        loss: of the last step.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._train = parts.identity.config.train
        self._checkpoints = parts.folder / "checkpoints"
        self.progress = self._resume()
        self.resumed_from = self.progress.step
        self.counts: Counter[str] = Counter()
        self.validation: dict[str, float] = {}
        self.waited = 0.0
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
                if self._parts.team.leads:
                    watch(self._report(began))
                self._mind(request, journal)
        finally:
            self._parts.feed.close()
            if journal:
                journal.close()
        return time.perf_counter() - began

    def _resume(self) -> Progress:
        found = checkpoints(self._checkpoints)
        if not found:
            start = Progress(step=0)
            if self._parts.team.leads:
                save_checkpoint(self._checkpoints, self._parts.learner, self._parts.identity, start)
            self._parts.team.wait()
            return start
        progress = restore(found[-1], self._parts.learner, self._parts.identity)
        self._parts.team.wait()
        if progress.step:
            log.info("going on after step %d", progress.step)
        return progress

    def _journal(self) -> Journal | None:
        if not self._parts.team.leads:
            return None
        return Journal(self._parts.folder / "metrics.jsonl", self.progress.step)

    def _one(self, journal: Journal | None) -> None:
        """One step: measure, then learn, or note that it was bad."""
        step = self.progress.step
        result = self.measure(step)
        good = math.isfinite(result.loss) and math.isfinite(result.norm)
        row: dict[str, Any] = {"step": step + 1, "loss": result.loss if good else None}
        self.loss = result.loss
        if good:
            self._parts.learner.update(step)
            self.progress = self.progress.model_copy(update={"step": step + 1, "bad_in_a_row": 0})
            rate = learning_rate(self._train.optimizer, step, self._train.steps)
            row |= {"norm": result.norm, "lr": rate, "panels": result.panels}
        else:
            self._skip(step)
        if journal:
            journal.write(row)
        self.counts["tokens"] += result.tokens

    def measure(self, step: int) -> StepResult:
        """Loss and gradients of a step; the gradients are summed over processes and clipped."""
        parts, train = self._parts, self._train
        waiting = time.perf_counter()
        batches = parts.feed.batch(step)
        self.waited += time.perf_counter() - waiting
        parts.learner.zero()
        layout = parts.panels
        sums = torch.zeros(2 + 2 * layout, dtype=torch.float64)
        for micro in batches:
            batch = to_device(micro, parts.team.device)
            with self._precision():
                losses = losses_of(
                    parts.family, parts.transformer, batch, guidance=train.noise.guidance
                )
            (losses.samples.sum() / train.batch).backward()
            panels = panel_losses(batch, losses.tokens, layout)
            tokens = losses.tokens.numel() + _text_tokens(batch)
            totals = [float(losses.samples.detach().sum()), float(tokens)]
            sums += torch.cat([torch.tensor(totals), *panels]).double()
            self.counts["captions_dropped"] += micro.dropped
            self.counts["samples_conditional"] += _conditional(micro)
        parts.team.add(parts.learner.gradients)
        parts.team.add([sums])
        values = sums.tolist()
        pairs = zip(values[2 : 2 + layout], values[2 + layout :], strict=True)
        return StepResult(
            loss=values[0] / train.batch,
            panels=[total / count if count else -1.0 for total, count in pairs],
            norm=parts.learner.gradient_norm(),
            tokens=int(values[1]),
        )

    def _precision(self) -> AbstractContextManager[Any]:
        if self._train.precision == "fp32":
            return nullcontext()
        return torch.autocast(self._parts.team.device.type, torch.bfloat16)

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
        regular = [
            path
            for path in checkpoints(self._checkpoints)
            if step_of(path) % self._train.save_every == 0
        ]
        restore(regular[-1], self._parts.learner, self._parts.identity)
        log.warning("back to the weights of step %d", step_of(regular[-1]))
        rollbacks = self.progress.rollbacks + 1
        self.progress = self.progress.model_copy(
            update={"bad_in_a_row": 0, "rollbacks": rollbacks}
        )

    def _mind(self, request: StopRequest, journal: Journal | None) -> None:
        """What is due between steps: validation, a checkpoint, an order to stop."""
        step, train, team = self.progress.step, self._train, self._parts.team
        last = step == train.steps
        if train.validate_every and (last or step % train.validate_every == 0):
            self.validation = self._parts.validate()
            if journal and self.validation:
                journal.write({"step": step, "validation": self.validation})
        stopping = team.any(asked=request.asked) and not last
        if stopping or last or step % train.save_every == 0:
            if journal:
                journal.sync()
                save_checkpoint(
                    self._checkpoints, self._parts.learner, self._parts.identity, self.progress
                )
                prune(self._checkpoints, train.keep_checkpoints, train.save_every)
            team.wait()
        if stopping:
            raise TrainingInterrupted(
                f"stopped after step {step} of {train.steps}; the same command goes on from there"
            )

    def _report(self, began: float) -> StepReport:
        done = self.progress.step - self.resumed_from
        seconds = time.perf_counter() - began
        return StepReport(
            step=self.progress.step,
            steps=self._train.steps,
            loss=self.loss,
            tokens_per_second=self.counts["tokens"] / seconds,
            seconds_left=seconds / done * (self._train.steps - self.progress.step),
        )


def _text_tokens(batch: MicroBatch) -> int:
    return sum(part.shape[0] * part.shape[1] for part in batch.text.values() if part.dim() > 2)


def _conditional(batch: MicroBatch) -> int:
    return int(batch.given.mask.any(dim=1).sum()) if batch.given else 0
