"""A training loop for any optimizer, and a schedule that can be prolonged.

``loop.train`` decays along a cosine whose length must be known; a base model is trained in
stretches, and how many there will be nobody knows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from iclora.store import whole

log = logging.getLogger(__name__)

CHECKPOINT: Final = "checkpoint.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """A rate that rises, stays, and falls in a straight line at the end of the stretch."""

    steps: int
    peak: float
    warmup: int = 100
    fall: float = 0.3
    """The share of the steps that the fall takes."""

    save_every: int = 200
    log_every: int = 50

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        left = (self.steps - step) / max(1.0, self.fall * self.steps)
        return self.peak * min(1.0, (step + 1) / self.warmup, max(left, 0.02))


def train_with(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    schedule: Plateau,
    folder: Path,
) -> None:
    """Trains a model from where ``folder`` says it stands, or from the start.

    Args:
        optimizer: Of all that is trained in ``model``.
        model: Trained in place; everything it holds is kept in the checkpoint.
        loss_of: The loss of step n; draws its batch from n alone.
        schedule: Length and rate; a longer one goes on where a shorter one ended.
        folder: Holds the checkpoint; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    first = _resume(path, model, optimizer)
    mean, clock, processor = 0.0, time.monotonic(), time.process_time()
    model.train()
    for step in range(first, schedule.steps):
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step) * group.get("share", 1.0)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        mean += float(loss.detach())
        done = step + 1
        if done % schedule.log_every == 0:
            pace = [
                now() - then
                for now, then in ((time.monotonic, clock), (time.process_time, processor))
            ]
            log.info(
                "step %d: loss %.4f, %.0f s, %.0f s of processor",
                done,
                mean / schedule.log_every,
                *pace,
            )
            mean, clock, processor = 0.0, time.monotonic(), time.process_time()
        if done % schedule.save_every == 0 or done == schedule.steps:
            _save(path, model, optimizer, done)


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restores a checkpoint if there is one; the number of steps already taken."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("resumed after %d steps", state["steps"])
    return int(state["steps"])


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "steps": steps}
    with whole(path) as scratch:
        torch.save(state, scratch)
