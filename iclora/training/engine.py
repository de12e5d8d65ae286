"""Loss and gradients of one step: the part of the loop that touches the model."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iclora.models.families import Family, Grid
from iclora.training.feed import Feed, to_device
from iclora.training.fit import Ladders
from iclora.training.learner import Learner
from iclora.training.objective import MicroBatch, autocast, losses_of, panel_losses
from iclora.training.sharding import padded
from iclora.training.speed import count_flops, peak_flops
from iclora.training.team import Team
from schemas.training import TrainParams

_SEQUENCE = 3
"""Axes of a tensor with one vector a token; a pooled vector has one less."""


class Machine(NamedTuple):
    """What a step runs on."""

    family: Family
    transformer: Any
    learner: Learner
    feed: Feed
    ladders: Ladders
    team: Team
    panels: int
    """The most on a canvas."""


class StepResult(NamedTuple):
    """What a step measured, summed over the processes."""

    loss: float
    panels: list[float]
    """Mean squared error of each panel; -1 where nothing was measured."""

    norm: float
    """Of the gradient, before it was clipped."""

    tokens: int
    """Of pictures and captions."""


class Engine:
    """Measures steps.

    Attributes:
        counts: of this stretch: dropped captions, samples with given panels, tokens, retries.
        waited: seconds spent waiting for the feed.
        flops: of all steps, recomputation included; 0 where the device's peak is unknown.
    """

    def __init__(self, machine: Machine, train: TrainParams) -> None:
        self._machine = machine
        self._train = train
        self._known: dict[tuple[Grid, int, float], int] = {}
        self._counted = peak_flops(machine.team.device) > 0
        self.counts: Counter[str] = Counter()
        self.waited = 0.0
        self.flops = 0

    def measure(self, step: int) -> StepResult:
        """One step's loss and gradients, summed over processes; the gradients are clipped.

        When memory runs out, the bucket that did not fit goes down its ladder and the step is
        measured anew.

        Raises:
            torch.OutOfMemoryError: the ladder has no rung left.
        """
        while True:
            batches = self._fetch(step)
            before, flops = self.counts.copy(), self.flops
            running: Grid | None = None
            self._machine.learner.zero()
            sums = torch.zeros(2 + 2 * self._machine.panels, dtype=torch.float64)
            try:
                for micro, counts in padded(batches, self._machine.team):
                    running = micro.grid
                    sums += self._pass(micro, step) if counts else self._idle_pass(micro, step)
                return self._gather(sums)
            except torch.OutOfMemoryError:
                # With a sharded base the others wait in the middle of this pass.
                if running is None or self._machine.team.shards:
                    raise
                if not self._machine.ladders.step_down(running):
                    raise
            self.counts, self.flops = before, flops
            self.counts["retries"] += 1
            self._make_room(running)

    def _fetch(self, step: int) -> list[MicroBatch]:
        began = time.perf_counter()
        batches = self._machine.feed.batch(step)
        self.waited += time.perf_counter() - began
        return batches

    def _make_room(self, grid: Grid) -> None:
        rung = self._machine.ladders.rung(grid)
        self._machine.feed.divide(grid, rung.micro_batch)
        self._machine.learner.zero()
        if self._machine.team.device.type == "cuda":
            torch.cuda.empty_cache()

    def _pass(self, micro: MicroBatch, step: int) -> Tensor:
        """Forward and backward of one micro-batch; tokens, loss, then panels' sums and counts."""
        machine, train = self._machine, self._train
        machine.ladders.use(micro.grid)
        batch = to_device(micro, machine.team.device)

        def work() -> tuple[Tensor, Tensor]:
            with autocast(train.precision, machine.team.device):
                losses = losses_of(
                    machine.family, machine.transformer, batch, guidance=train.noise.guidance
                )
            total = losses.samples.sum()
            # Only now: the backward pass leaves Python to the feed, the forward pass needs it. And
            # not on a CPU, whose cores all compute: a thread more makes them wait for each other.
            if machine.team.device.type != "cpu":
                machine.feed.prepare(step + 1)
            (total / train.batch).backward()
            return total.detach(), losses.tokens

        total, errors = self._counting(micro, work) if self._counted else work()
        tokens = errors.numel() + _text_tokens(batch)
        self.counts["captions_dropped"] += micro.dropped
        self.counts["samples_conditional"] += _conditional(micro)
        panels = panel_losses(batch, errors, machine.panels)
        measured = torch.cat([total[None], panels.flatten()]).cpu()  # the one wait for the device
        return torch.cat([torch.tensor([float(tokens)]), measured]).double()

    def _idle_pass(self, micro: MicroBatch, step: int) -> float:
        """A pass that only keeps the others company."""
        before, flops = self.counts.copy(), self.flops
        self._pass(micro, step)
        self.counts, self.flops = before, flops
        return 0.0

    def _counting(self, micro: MicroBatch, work: Any) -> Any:
        """Counts the operations the first time a shape comes, and remembers them."""
        rung = self._machine.ladders.rung(micro.grid)
        key = (micro.grid, micro.latents.shape[0], rung.share)
        if key in self._known:
            result = work()
        else:
            self._known[key], result = count_flops(work)
        self.flops += self._known[key]
        return result

    def _gather(self, sums: Tensor) -> StepResult:
        machine = self._machine
        machine.team.add(machine.learner.gradients())
        machine.team.add([sums])
        values, panels = sums.tolist(), machine.panels
        pairs = zip(values[2 : 2 + panels], values[2 + panels :], strict=True)
        self.counts["tokens"] += int(values[0])
        return StepResult(
            loss=values[1] / self._train.batch,
            panels=[total / count if count else -1.0 for total, count in pairs],
            norm=machine.learner.gradient_norm(),
            tokens=int(values[0]),
        )


def _text_tokens(batch: MicroBatch) -> int:
    return sum(
        part.shape[0] * part.shape[1] for part in batch.text.values() if part.dim() == _SEQUENCE
    )


def _conditional(batch: MicroBatch) -> int:
    return int(batch.given.mask.any(dim=1).sum()) if batch.given else 0
