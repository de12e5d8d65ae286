"""Trainable state: adapter tensors, their moving average, and the optimizer."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from iclora.errors import BadConfig
from schemas.training import OptimizerParams

_CLIP_MARGIN = 1e-6
"""Epsilon that torch adds to the norm when clipping."""


class AdapterOptimizer:
    """Optimizer of the adapter's tensors, which it updates in place.

    Attributes:
        tensors: float32 adapter tensors by name, sorted.
        ema: exponential moving average of the tensors, used as the published weights; in host
            memory if offloaded.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        params: OptimizerParams,
        steps: int,
        *,
        offload: bool = False,
    ) -> None:
        self.tensors = dict(tensors)
        device = next(iter(tensors.values())).device
        self._ema_device = torch.device("cpu") if offload else device
        self.ema = {
            name: tensor.detach().clone().to(self._ema_device) for name, tensor in tensors.items()
        }
        self._params = params
        self._steps = steps
        self._optimizer = _build(list(self.tensors.values()), params)

    def zero_grad(self) -> None:
        """Clears the gradients."""
        for tensor in self.tensors.values():
            tensor.grad = None

    def gradients(self) -> list[Tensor]:
        """Returns gradients in name order, with zeros where this process has none to all-reduce."""
        for tensor in self.tensors.values():
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
        return [tensor.grad for tensor in self.tensors.values() if tensor.grad is not None]

    def gradient_norm(self) -> float:
        """Clips the gradients in place and returns the norm before clipping."""
        limit, tensors = self._params.max_grad_norm, list(self.tensors.values())
        norm = torch.nn.utils.get_total_norm(self.gradients())
        length = float(norm)
        if length + _CLIP_MARGIN > limit:  # below it, torch multiplies every gradient by 1
            torch.nn.utils.clip_grads_with_norm_(tensors, limit, norm)
        return length

    def update(self, step: int) -> float:
        """Runs one optimizer step (0-based), updates the average, and returns the learning rate."""
        rate = learning_rate(self._params, step, self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        # The warm-up follows TensorFlow's ExponentialMovingAverage. Without it, the untrained
        # weights would dominate the average of a short run.
        decay = min(self._params.ema_decay, (2.0 + step) / (11.0 + step))
        blend: Any = torch._foreach_lerp_  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage] - has no public name
        with torch.no_grad():
            current = [tensor.to(self._ema_device) for tensor in self.tensors.values()]
            blend(list(self.ema.values()), current, 1.0 - decay)
        return rate

    @contextmanager
    def ema_weights(self) -> Generator[None]:
        """Swaps the moving average into the adapter's tensors inside the block."""
        raw = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        try:
            for name, tensor in self.tensors.items():
                tensor.data.copy_(self.ema[name])
            yield
        finally:
            for name, tensor in self.tensors.items():
                tensor.data.copy_(raw[name])

    def optimizer_state(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Returns the optimizer state as named tensors and named numbers."""
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, float] = {}
        for name, tensor in self.tensors.items():
            for key, value in self._optimizer.state.get(tensor, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{name}|{key}"] = value
                else:
                    numbers[f"{name}|{key}"] = float(value)
        return tensors, numbers

    def restore(
        self,
        raw: Mapping[str, Tensor],
        ema: Mapping[str, Tensor],
        state_tensors: Mapping[str, Tensor],
        numbers: Mapping[str, float],
    ) -> None:
        """Restores weights, moving average, and optimizer state from a checkpoint."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(raw[name])
                self.ema[name].copy_(ema[name])
        # bitsandbytes stores its step count as an int and accepts no other type.
        counts = {path: int(n) if n.is_integer() else n for path, n in numbers.items()}
        saved: dict[str, dict[str, Any]] = {}
        for path, value in {**state_tensors, **counts}.items():
            name, _, key = path.rpartition("|")
            saved.setdefault(name, {})[key] = value
        state = {index: saved[name] for index, name in enumerate(self.tensors) if name in saved}
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})


def learning_rate(params: OptimizerParams, step: int, steps: int) -> float:
    """Computes the learning rate of a 0-based step as a pure function, without scheduler state."""
    if step < params.warmup_steps:
        return params.lr * (step + 1) / params.warmup_steps
    done = (step - params.warmup_steps) / max(1, steps - params.warmup_steps)
    if params.lr_schedule == "linear":
        return params.lr * (1.0 - done)
    if params.lr_schedule == "cosine":
        return params.lr * 0.5 * (1.0 + math.cos(math.pi * done))
    return params.lr


def require_optimizer(params: OptimizerParams) -> None:
    """Checks the optimizer's dependencies before any model loads.

    Raises:
        BadConfig: ``adamw8bit`` without bitsandbytes.
    """
    if params.name == "adamw8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise BadConfig(
            "train.optimizer.name = 'adamw8bit' needs bitsandbytes: pip install bitsandbytes, "
            "or set it to 'adamw'"
        )


def _build(tensors: list[Tensor], params: OptimizerParams) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {
        "lr": params.lr,
        "betas": params.betas,
        "eps": params.eps,
        "weight_decay": params.weight_decay,
    }
    if params.name == "adamw":
        return torch.optim.AdamW(tensors, fused=True, **settings)
    return importlib.import_module("bitsandbytes").optim.AdamW8bit(tensors, **settings)
