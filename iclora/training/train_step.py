"""Loss and gradients of one training step."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iclora.models.families import Family, Grid
from iclora.training.dataloader import BatchLoader, to_device
from iclora.training.distributed import DistEnv, padded
from iclora.training.loss import MicroBatch, autocast, compute_losses, panel_losses
from iclora.training.memory import MemoryPlan
from iclora.training.optimizer import AdapterOptimizer
from iclora.training.perf import count_flops, peak_flops
from schemas.training import TrainParams

_SEQUENCE = 3
"""Number of dimensions of a tensor with one vector per token; a pooled vector has one less."""


class StepContext(NamedTuple):
    """Dependencies of a training step."""

    family: Family
    transformer: Any
    optimizer: AdapterOptimizer
    loader: BatchLoader
    memory: MemoryPlan
    dist: DistEnv
    panels: int
    """Maximum number of panels per canvas."""


class StepResult(NamedTuple):
    """Results of one step, summed over the processes."""

    loss: float
    panels: list[float]
    """Mean squared error per panel; -1 for a panel without measured tokens."""

    norm: float
    """Gradient norm before clipping."""


class TrainStep:
    """Forward and backward passes of training steps, with counters.

    Attributes:
        counts: dropped captions, samples with given panels, tokens, and retries since the start or
            resumption of the run.
        seconds_waiting: seconds spent waiting for the batch loader.
        flops: FLOPs of all steps including recomputation; 0 if the device's peak is unknown.
    """

    def __init__(self, context: StepContext, train: TrainParams) -> None:
        self._context = context
        self._train = train
        self._flops_by_shape: dict[tuple[Grid, int, float], int] = {}
        self._counts_flops = peak_flops(context.dist.device) > 0
        self.counts: Counter[str] = Counter()
        self.seconds_waiting = 0.0
        self.flops = 0

    def run(self, step: int) -> StepResult:
        """Computes the loss and the clipped gradients of a step, summed over the processes.

        After running out of memory, the affected bucket falls back to its next memory option and
        the step restarts.

        Raises:
            torch.OutOfMemoryError: no memory option remains, or the base is sharded.
        """
        while True:
            began = time.perf_counter()
            batches = self._context.loader.batch(step)
            self.seconds_waiting += time.perf_counter() - began
            before, flops = self.counts.copy(), self.flops
            running: Grid | None = None
            self._context.optimizer.zero_grad()
            sums = torch.zeros(2 + 2 * self._context.panels, dtype=torch.float64)
            try:
                for micro, is_real in padded(batches, self._context.dist):
                    running = micro.grid
                    if is_real:
                        sums += self._pass(micro, step)
                    else:  # padding that a sharded base requires, which leaves no trace
                        counted = self.counts.copy(), self.flops
                        self._pass(micro, step)
                        self.counts, self.flops = counted
                return self._gather(sums)
            except torch.OutOfMemoryError:
                # With a sharded base, other processes are blocked in the middle of this pass.
                if running is None or self._context.dist.is_sharded:
                    raise
                if not self._context.memory.fall_back(running):
                    raise
            self.counts, self.flops = before, flops
            self.counts["retries"] += 1
            option = self._context.memory.option(running)
            self._context.loader.set_micro_batch(running, option.micro_batch)
            self._context.optimizer.zero_grad()
            if self._context.dist.device.type == "cuda":
                torch.cuda.empty_cache()

    def _pass(self, micro: MicroBatch, step: int) -> Tensor:
        """Runs forward and backward of a micro-batch.

        Returns:
            ``[2 + 2 P]`` on the CPU: tokens, loss, and the error sum and token count of each panel.
        """
        context, train = self._context, self._train
        context.memory.apply(micro.grid)
        batch = to_device(micro, context.dist.device)

        def work() -> tuple[Tensor, Tensor]:
            with autocast(train.precision, context.dist.device):
                losses = compute_losses(
                    context.family, context.transformer, batch, guidance=train.noise.guidance
                )
            total = losses.samples.sum()  # []
            # Prefetch only now: the backward pass frees the GIL, the forward pass needs it. Skip
            # this on a CPU, where an extra thread competes with compute for the cores.
            if context.dist.device.type != "cpu":
                context.loader.prefetch(step + 1)
            (total / train.batch).backward()
            return total.detach(), losses.tokens  # [], [B, N]

        total, errors = self._count_flops(micro, work) if self._counts_flops else work()
        tokens = errors.numel() + sum(
            part.shape[0] * part.shape[1] for part in batch.text.values() if part.dim() == _SEQUENCE
        )
        self.counts["captions_dropped"] += micro.dropped
        given = micro.given.mask.any(dim=1).sum() if micro.given else 0
        self.counts["samples_conditional"] += int(given)
        panels = panel_losses(batch, errors, context.panels)  # [2, P]
        measured = torch.cat([total[None], panels.flatten()]).cpu()  # the only device sync
        return torch.cat([torch.tensor([float(tokens)]), measured]).double()

    def _count_flops(self, micro: MicroBatch, work: Any) -> Any:
        """Runs ``work`` and adds its FLOPs, measured once per shape and cached."""
        option = self._context.memory.option(micro.grid)
        key = (micro.grid, micro.latents.shape[0], option.share)
        if key in self._flops_by_shape:
            result = work()
        else:
            self._flops_by_shape[key], result = count_flops(work)
        self.flops += self._flops_by_shape[key]
        return result

    def _gather(self, sums: Tensor) -> StepResult:
        context = self._context
        context.dist.all_reduce(context.optimizer.gradients())
        context.dist.all_reduce([sums])
        values, panels = sums.tolist(), context.panels
        pairs = zip(values[2 : 2 + panels], values[2 + panels :], strict=True)
        self.counts["tokens"] += int(values[0])
        return StepResult(
            loss=values[1] / self._train.batch,
            panels=[total / count if count else -1.0 for total, count in pairs],
            norm=context.optimizer.gradient_norm(),
        )
