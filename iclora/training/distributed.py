"""One process or many: who takes which samples, how gradients are added up, how all end together.

Gradients are summed by hand after the whole batch, not by DistributedDataParallel, because samples
of one batch may have different shapes and processes then run different numbers of passes.

Processes may be on machines that share nothing but the store, and not even its work folder. So the
first process alone reads and writes running work, and tells the others what it read.
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

    def gather(self, thing: Thing) -> list[Thing]:
        """What each process gives, in the order of their ranks; in every process."""
        if self.world_size == 1:
            return [thing]
        found: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(found, thing)
        return found

    def tell(self, thing: Thing) -> Thing:
        """What the first process gives; in every process."""
        if self.world_size == 1:
            return thing
        box = [thing]
        torch.distributed.broadcast_object_list(box, 0)
        return box[0]

    def spread(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first process's tensors; in every process, on the CPU, whatever the others give."""
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
        """Has the first process do something; its result, or its error, is that of all."""
        made: Thing | None = None
        with self.together():
            if self.is_main:
                made = work()
        return cast("Thing", self.tell(made))

    @contextmanager
    def together(self) -> Generator[None]:
        """Ends the block in all processes alike: after the last is through, or by one's error.

        Without it the others would wait for a process that is gone. In the block nothing may wait
        for another process.

        Raises:
            SaidElsewhere: in all processes but the first, after an error that was raised on
                purpose. The first raises its own, or says the error of another.
        """
        raised: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - it is raised below, once all know of it
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
        """Until all processes are here."""
        self._state.wait_for_everyone()


class _Fault(NamedTuple):
    """An error, for the other processes."""

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
    """Whether a run stays off the GPU: there is none, or ``accelerate launch`` was told so.

    accelerate joins processes without a GPU only when it is told that there is none.
    """
    return _env_flag("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def _env_flag(variable: str) -> bool:
    """Whether ``accelerate launch`` switched something on: it writes ``False`` for off."""
    return os.environ.get(variable, "").lower() in {"1", "true"}
