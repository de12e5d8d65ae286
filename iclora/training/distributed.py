"""Distributed environment: batches, gradients, coordinated errors, and a sharded base.

Machines may share only the store: the first process alone reads and writes running work.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from iclora.errors import BadConfig, IcloraError, SaidElsewhere, UserError
from schemas.training import TrainParams

T = TypeVar("T")

_TIMEOUT = timedelta(hours=12)
"""Collective timeout; long because other processes wait while the first fills the caches."""


class DistEnv:
    """Processes of this run, started by ``accelerate launch``; a single process otherwise."""

    def __init__(self) -> None:
        from accelerate import PartialState

        state: Any = PartialState(cpu=on_cpu(), timeout=_TIMEOUT)
        self.world_size: int = state.num_processes
        self.rank: int = state.process_index
        self.device: torch.device = state.device
        self.is_sharded: bool = _env_flag("ACCELERATE_USE_FSDP") and self.world_size > 1
        """True if the frozen base is sharded across the processes."""

    @property
    def is_main(self) -> bool:
        """True for the first process, which writes the files."""
        return self.rank == 0

    def split(self, items: Sequence[T]) -> list[T]:
        """Returns this process's share of a batch."""
        return list(items[self.rank :: self.world_size])

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sums tensors over the processes, in place."""
        # Gradients come here once per batch. DistributedDataParallel needs equal numbers of passes,
        # but the samples of a batch differ in shape.
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
        maximum = torch.tensor([number], device=self.device)
        torch.distributed.all_reduce(maximum, torch.distributed.ReduceOp.MAX)
        return int(maximum.item())

    def gather(self, value: T) -> list[T]:
        """Gathers an object from every process, in rank order, on all processes."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """Broadcasts the first process's object to all processes."""
        if self.world_size == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, 0)
        return values[0]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Broadcasts the first process's tensors to the CPU of every process."""
        if self.world_size == 1:
            return dict(tensors)
        shapes = self.broadcast(
            {name: (value.shape, value.dtype) for name, value in tensors.items()}
        )
        received: dict[str, Tensor] = {}
        for name, (shape, dtype) in shapes.items():
            value = tensors[name] if self.is_main else torch.empty(shape, dtype=dtype)
            value = value.to(self.device)
            torch.distributed.broadcast(value, 0)
            received[name] = value.cpu()
        return received

    def first(self, work: Callable[[], T]) -> T:
        """Runs ``work`` on the first process and shares its result or error with all processes."""
        result: T | None = None
        with self.together():
            if self.is_main:
                result = work()
        return cast("T", self.broadcast(result))

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
        fault = None
        if raised:
            ours = isinstance(raised, IcloraError)
            sentence = str(raised) if ours else f"{type(raised).__name__}: {raised}"
            fault = (socket.gethostname(), sentence, raised.exit_code if ours else 1)
        faults = self.gather(fault)
        if raised and (self.is_main or not isinstance(raised, IcloraError)):
            raise raised
        for rank, other in enumerate(faults):
            if other:
                host, sentence, exit_code = other
                if not self.is_main:
                    raise SaidElsewhere(sentence, exit_code)
                kind = UserError if exit_code == UserError.exit_code else IcloraError
                raise kind(f"process {rank} on {host}: {sentence}")


def on_cpu() -> bool:
    """Returns true if there is no GPU or ``accelerate launch`` selected the CPU.

    accelerate connects processes without a GPU only if the CPU is selected explicitly.
    """
    return _env_flag("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def _env_flag(variable: str) -> bool:
    """Parses a flag of ``accelerate launch``, which writes ``False`` for off."""
    return os.environ.get(variable, "").lower() in {"1", "true"}


def require_shardable(train: TrainParams, dist: DistEnv) -> None:
    """Rejects settings that do not work with a sharded base.

    Raises:
        BadConfig: the weights are quantized, or a batch has fewer samples than processes.
    """
    if train.weights not in {"auto", "dense"}:
        raise BadConfig(f"train.weights = {train.weights!r} cannot be sharded: set it to 'dense'")
    if train.batch < dist.world_size:
        raise BadConfig(
            f"train.batch = {train.batch} is less than the {dist.world_size} processes among which "
            f"the base is sharded: every process needs a sample"
        )


def shard(
    transformer: Any, blocks: Iterable[Any], tensors: Mapping[str, Tensor], dist: DistEnv
) -> None:
    """Shards the frozen base in place with FSDP and replicates the adapter's tensors.

    ``accelerate launch`` with an FSDP configuration enables it (``docs/examples/fsdp.yaml``).

    Args:
        transformer: transformer on the CPU.
        blocks: repeated blocks of the transformer; each forms one FSDP unit.
        tensors: tensors of the adapter, which are not sharded.
        dist: processes to shard across.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for tensor in tensors.values():
        tensor.data = tensor.data.to(dist.device)
    # Not accelerate's prepare(), which also shards the adapter. Whole on every process, it is saved
    # as a single process saves it.
    shard_module: Any = fully_shard
    mesh = init_device_mesh(dist.device.type, (dist.world_size,))
    for module in (*blocks, transformer):
        shard_module(module, mesh=mesh, ignored_params=set(tensors.values()))


def padded(batches: Sequence[Any], dist: DistEnv) -> list[tuple[Any, bool]]:
    """Pads this process's micro-batches to the largest count of any process.

    A sharded base requires every process to run the same number of passes. A process with fewer
    micro-batches repeats its last one with zero weights.

    Returns:
        Pairs of a micro-batch and a flag that is false for padding.
    """
    passes = [(batch, True) for batch in batches]
    if dist.is_sharded:
        empty = batches[-1]._replace(weight=batches[-1].weight * 0)
        passes += [(empty, False)] * (dist.all_reduce_max(len(batches)) - len(batches))
    return passes
