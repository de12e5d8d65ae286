"""Distributed environment: batch splitting, gradient reduction, and coordinated errors.

Gradients are all-reduced once after the whole batch instead of through DistributedDataParallel,
because samples of one batch may differ in shape and processes may run different numbers of passes.

Machines may share only the store, without its work folder. Only the first process reads and writes
running work, and it broadcasts the contents to the others.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from iclora.errors import IcloraError, SaidElsewhere, UserError

Thing = TypeVar("Thing")

_TIMEOUT = timedelta(hours=12)
"""Collective timeout; long because other processes wait while the first fills the caches."""


class DistEnv:
    """Processes of this run, started by ``accelerate launch``; a single process otherwise."""

    def __init__(self) -> None:
        from accelerate import PartialState

        state: Any = PartialState(cpu=on_cpu(), timeout=_TIMEOUT)
        self._state = state
        self.world_size: int = state.num_processes
        self.rank: int = state.process_index
        self.device: torch.device = state.device
        self.is_sharded: bool = _env_flag("ACCELERATE_USE_FSDP") and self.world_size > 1
        """True if the frozen base is sharded across the processes."""

    @property
    def is_main(self) -> bool:
        """True for the first process, which writes the files."""
        return self.rank == 0

    def split(self, things: Sequence[Thing]) -> list[Thing]:
        """Returns this process's share of a batch."""
        return list(things[self.rank :: self.world_size])

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sums tensors over the processes, in place."""
        if self.world_size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(self.device)
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(
            tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True
        ):
            tensor.copy_(part.view_as(tensor))

    def any_rank(self, *, condition: bool) -> bool:
        """Returns true in every process if the condition holds in any."""
        flag = torch.tensor([float(condition)], device=self.device)
        self.all_reduce([flag])
        return bool(flag.item() > 0)

    def all_reduce_max(self, number: int) -> int:
        """Returns the maximum of a number over the processes."""
        if self.world_size == 1:
            return number
        found = torch.tensor([number], device=self.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found.item())

    def gather(self, thing: Thing) -> list[Thing]:
        """Gathers an object from every process, in rank order, on all processes."""
        if self.world_size == 1:
            return [thing]
        found: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(found, thing)
        return found

    def tell(self, thing: Thing) -> Thing:
        """Broadcasts the first process's object to all processes."""
        if self.world_size == 1:
            return thing
        box = [thing]
        torch.distributed.broadcast_object_list(box, 0)
        return box[0]

    def spread(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Broadcasts the first process's tensors to the CPU of every process."""
        shapes = self.tell({name: (value.shape, value.dtype) for name, value in tensors.items()})
        if self.world_size == 1:
            return dict(tensors)
        found: dict[str, Tensor] = {}
        for name, (shape, dtype) in shapes.items():
            value = tensors[name] if self.is_main else torch.empty(shape, dtype=dtype)
            there = value.to(self.device)
            torch.distributed.broadcast(there, 0)
            found[name] = there.cpu()
        return found

    def first(self, work: Callable[[], Thing]) -> Thing:
        """Runs ``work`` on the first process and shares its result or error with all processes."""
        made: Thing | None = None
        with self.together():
            if self.is_main:
                made = work()
        return cast("Thing", self.tell(made))

    @contextmanager
    def together(self) -> Generator[None]:
        """Synchronizes the end of the block, raising an error in all processes if any fails.

        Without this block, the other processes would wait forever for a failed one. Code inside the
        block must not wait for another process.

        Raises:
            SaidElsewhere: on every process except the first, after an expected error. The first
                process raises its own error or reports that of another process.
        """
        raised: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, after all processes know of it
            raised = error
        faults = [fault for fault in self.gather(_fault(self.rank, raised)) if fault]
        if raised and (self.is_main or not isinstance(raised, IcloraError)):
            raise raised
        if faults and self.is_main:
            kind = UserError if faults[0].exit_code == UserError.exit_code else IcloraError
            raise kind(f"process {faults[0].rank} on {faults[0].host}: {faults[0].sentence}")
        if faults:
            raise SaidElsewhere(faults[0].sentence, faults[0].exit_code)

    def barrier(self) -> None:
        """Waits for all processes."""
        self._state.wait_for_everyone()


class _Fault(NamedTuple):
    """Error of one process, sent to the others."""

    rank: int
    host: str
    sentence: str
    exit_code: int


def _fault(rank: int, error: Exception | None) -> _Fault | None:
    if error is None:
        return None
    ours = isinstance(error, IcloraError)
    sentence = str(error) if ours else f"{type(error).__name__}: {error}"
    return _Fault(rank, socket.gethostname(), sentence, error.exit_code if ours else 1)


def on_cpu() -> bool:
    """Returns true if there is no GPU or ``accelerate launch`` selected the CPU.

    accelerate connects processes without a GPU only if the CPU is selected explicitly.
    """
    return _env_flag("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def _env_flag(variable: str) -> bool:
    """Parses a flag of ``accelerate launch``, which writes ``False`` for off."""
    return os.environ.get(variable, "").lower() in {"1", "true"}
