"""One process or many: who takes which samples, and how gradients are added up.

Gradients are summed by hand after the whole batch, not by DistributedDataParallel, because samples
of one batch may have different shapes and processes then run different numbers of passes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor

Thing = TypeVar("Thing")

_TIMEOUT = timedelta(hours=12)
"""Others wait while the first process fills the caches."""


class DistEnv:
    """The processes of this run (``accelerate launch`` starts them; alone otherwise)."""

    def __init__(self) -> None:
        from accelerate import PartialState

        state: Any = PartialState(cpu=on_cpu(), timeout=_TIMEOUT)
        self._state = state
        self.world_size: int = state.num_processes
        self.rank: int = state.process_index
        self.device: torch.device = state.device
        self.is_sharded: bool = _env_flag("ACCELERATE_USE_FSDP") and self.world_size > 1
        """Whether the frozen base is divided among the processes."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def split(self, things: Sequence[Thing]) -> list[Thing]:
        """This process's part of a batch."""
        return list(things[self.rank :: self.world_size])

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by their sums over the processes."""
        if self.world_size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(self.device)
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(
            tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True
        ):
            tensor.copy_(part.view_as(tensor))

    def any_rank(self, *, condition: bool) -> bool:
        """Whether any process says so."""
        flag = torch.tensor([float(condition)], device=self.device)
        self.all_reduce([flag])
        return bool(flag.item() > 0)

    def all_reduce_max(self, number: int) -> int:
        """The largest of the processes' numbers."""
        if self.world_size == 1:
            return number
        found = torch.tensor([number], device=self.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found.item())

    def barrier(self) -> None:
        """Until all processes are here."""
        self._state.wait_for_everyone()


def on_cpu() -> bool:
    """Whether a run stays off the GPU: there is none, or ``accelerate launch`` was told so.

    accelerate joins processes without a GPU only when it is told that there is none.
    """
    return _env_flag("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def _env_flag(variable: str) -> bool:
    """Whether ``accelerate launch`` switched something on: it writes ``False`` for off."""
    return os.environ.get(variable, "").lower() in {"1", "true"}
