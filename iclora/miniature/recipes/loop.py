"""The training loop that all recipes share: resumable, atomic checkpoints, a log line now and then.

What a step sees is a function of its number alone, so a run that was killed and resumed takes the
same steps as one that was not.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from iclora.store import whole

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
LOG_EVERY = 50
SAVE_EVERY = 100
"""Steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast."""

    steps: int
    peak: float
    """The highest learning rate."""

    warmup: int = 100
    """Steps over which it rises from 0."""

    floor: float = 0.02
    """The share of the peak that is left at the end of the cosine."""

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        rise = min(1.0, (step + 1) / self.warmup)
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.peak * rise * (self.floor + (1 - self.floor) * fall)


StepLoss = Callable[[int], Tensor]
"""The loss of step n; draws its batch from n alone."""


def train(model: nn.Module, loss_of: StepLoss, schedule: Schedule, folder: Path) -> None:
    """Trains a model from where ``folder`` says it stands, or from the start.

    Args:
        model: Trained in place.
        loss_of: The loss of a step, as a scalar that can be differentiated.
        schedule: Length and rate.
        folder: Holds the checkpoint; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(
        _groups(model), lr=schedule.peak, betas=(0.9, 0.98), weight_decay=0.02
    )
    first = _resume(folder / CHECKPOINT, model, optimizer)
    mean, since = 0.0, time.monotonic()
    for step in range(first, schedule.steps):
        model.train()
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean += float(loss.detach())
        done = step + 1
        if done % LOG_EVERY == 0:
            pace = (time.monotonic() - since) / LOG_EVERY
            log.info("step %d: loss %.4f, %.2f s a step", done, mean / LOG_EVERY, pace)
            mean, since = 0.0, time.monotonic()
        if done % SAVE_EVERY == 0 or done == schedule.steps:
            _save(folder / CHECKPOINT, model, optimizer, done)


def _groups(model: nn.Module) -> list[dict[str, object]]:
    """Matrices decay, biases and norms do not."""
    trained = [value for value in model.parameters() if value.requires_grad]
    return [
        {"params": [value for value in trained if value.ndim > 1]},
        {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
    ]


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restores a checkpoint if there is one; the number of steps already taken."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("%s: resumed after %d steps", path.name, state["steps"])
    return int(state["steps"])


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "steps": steps}
    with whole(path) as scratch:
        torch.save(state, scratch)
