"""A base that is too large for one device, divided among the processes (FSDP).

``accelerate launch`` with an FSDP configuration asks for it (``docs/examples/fsdp.yaml``). Only the
frozen base is divided, block by block; the adapter lies whole on every process and its gradients
are added up as ever, so checkpoints and files do not differ from a run on one process. Rejected:
accelerate's own ``prepare``, which would divide the adapter too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from iclora.errors import BadConfig
from iclora.training.distributed import DistEnv
from schemas.training import TrainParams


def require_shardable(train: TrainParams, dist: DistEnv) -> None:
    """Keeps settings away that a divided base cannot serve.

    Raises:
        BadConfig: quantised weights, or fewer samples in a batch than processes.
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
    """Divides the frozen base; the adapter's tensors go whole to the device.

    Args:
        transformer: on the CPU.
        blocks: its repeated blocks, each of which is gathered when it runs.
        tensors: the adapter's.
        dist: whose processes hold a part each.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for tensor in tensors.values():
        tensor.data = tensor.data.to(dist.device)
    divide: Any = fully_shard
    how = {
        "mesh": init_device_mesh(dist.device.type, (dist.world_size,)),
        "ignored_params": set(tensors.values()),
    }
    for block in blocks:
        divide(block, **how)
    divide(transformer, **how)


def padded(batches: Sequence[Any], dist: DistEnv) -> list[tuple[Any, bool]]:
    """A process's micro-batches, and whether each counts.

    A divided base needs all processes to run it equally often: one with fewer micro-batches repeats
    its last with all weights zero.
    """
    passes = [(batch, True) for batch in batches]
    if dist.is_sharded:
        empty = batches[-1]._replace(weight=batches[-1].weight * 0)
        passes += [(empty, False)] * (dist.all_reduce_max(len(batches)) - len(batches))
    return passes
