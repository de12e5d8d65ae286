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
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from iclora.store import atomic_path

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
LOG_EVERY = 50
SAVE_EVERY = 100
"""Steps."""


class Schedule(Protocol):
    """How long and how fast."""

    @property
    def steps(self) -> int:
        """Of the whole training."""
        ...

    @property
    def save_every(self) -> int:
        """Steps between two checkpoints."""
        ...

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine:
    """A rate that rises and falls along a cosine whose length is known."""

    steps: int
    peak: float
    """The highest learning rate."""

    warmup: int = 100
    """Steps over which it rises from 0."""

    floor: float = 0.02
    """The share of the peak that is left at the end of the cosine."""

    @property
    def save_every(self) -> int:
        """Steps between two checkpoints."""
        return SAVE_EVERY

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        rise = min(1.0, (step + 1) / self.warmup)
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.peak * rise * (self.floor + (1 - self.floor) * fall)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """A rate that rises, stays, and falls in a straight line at the end of the stretch.

    A base model is trained in stretches, and how many there will be nobody knows: a longer
    schedule goes on where a shorter one ended.
    """

    steps: int
    peak: float
    warmup: int = 100
    fall: float = 0.3
    """The share of the steps that the fall takes."""

    save_every: int = 200

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        left = (self.steps - step) / max(1.0, self.fall * self.steps)
        return self.peak * min(1.0, (step + 1) / self.warmup, max(left, 0.02))


StepLoss = Callable[[int], Tensor]
"""The loss of step n; draws its batch from n alone."""


def train(
    model: nn.Module,
    loss_of: StepLoss,
    schedule: Schedule,
    folder: Path,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Trains a model from where ``folder`` says it stands, or from the start.

    Args:
        model: Trained in place; everything it holds is kept in the checkpoint.
        loss_of: The loss of a step, as a scalar that can be differentiated.
        schedule: Length and rate; a group's ``share`` multiplies the rate.
        folder: Holds the checkpoint; made if it is not there.
        optimizer: Of all that is trained in ``model``; AdamW if none is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = optimizer or _adamw(model)
    first = _resume(folder / CHECKPOINT, model, optimizer)
    trained = [value for value in model.parameters() if value.requires_grad]
    mean, since = 0.0, time.monotonic()
    for step in range(first, schedule.steps):
        model.train()
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step) * group.get("share", 1.0)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        mean += float(loss.detach())
        done = step + 1
        if done % LOG_EVERY == 0:
            pace = (time.monotonic() - since) / LOG_EVERY
            log.info("step %d: loss %.4f, %.2f s a step", done, mean / LOG_EVERY, pace)
            mean, since = 0.0, time.monotonic()
        if done % schedule.save_every == 0 or done == schedule.steps:
            _save(folder / CHECKPOINT, model, optimizer, done)


def _adamw(model: nn.Module) -> torch.optim.Optimizer:
    """Matrices decay, biases and norms do not."""
    trained = [value for value in model.parameters() if value.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [value for value in trained if value.ndim > 1]},
        {"params": [value for value in trained if value.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.02)


def _save(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """One safetensors file: ``model.<name>``, ``optimizer.<number>.<name>``, steps beside them.

    Cloned, because safetensors refuses tensors that share memory, as tied weights do. An
    optimizer's groups are made anew by the recipe, and all its state is tensors.
    """
    tensors = {f"model.{name}": value.clone() for name, value in model.state_dict().items()}
    for number, entry in optimizer.state_dict()["state"].items():
        for name, value in entry.items():
            tensors[f"optimizer.{number}.{name}"] = value.clone()
    with atomic_path(path) as scratch:
        save_file(
            {name: value.contiguous() for name, value in tensors.items()},
            scratch,
            metadata={"steps": str(steps)},
        )


def _resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restores a checkpoint if there is one; the number of steps already taken."""
    if not path.exists():
        return 0
    weights: dict[str, Tensor] = {}
    state: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType] - untyped
        steps = int(file.metadata()["steps"])
        for key in file.keys():  # noqa: SIM118 - not a mapping
            part, _, rest = key.partition(".")
            if part == "model":
                weights[rest] = file.get_tensor(key)
            else:
                number, _, name = rest.partition(".")
                state.setdefault(int(number), {})[name] = file.get_tensor(key)
    model.load_state_dict(weights)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    log.info("%s: resumed after %d steps", path.name, steps)
    return steps
