"""FSDP sharding of a base that is too large for one device.

``accelerate launch`` with an FSDP configuration enables it (``docs/examples/fsdp.yaml``). Only the
frozen base is sharded, block by block. The adapter is replicated and its gradients are all-reduced,
so checkpoints and files match those of a single-process run. accelerate's ``prepare`` does not work
here because it also shards the adapter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from iclora.errors import BadConfig
from iclora.training.distributed import DistEnv
from schemas.training import TrainParams


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
    """Shards the frozen base in place and replicates the adapter's tensors.

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
    divide: Any = fully_shard
    how = {
        "mesh": init_device_mesh(dist.device.type, (dist.world_size,)),
        "ignored_params": set(tensors.values()),
    }
    for block in blocks:
        divide(block, **how)
    divide(transformer, **how)


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
