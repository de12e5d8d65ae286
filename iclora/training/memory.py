"""Memory estimates and options that fit a step on the device.

The estimate follows the activations that autograd keeps for FLUX.1 blocks under bf16 autocast with
a float32 adapter (``iclora.training.lora_forward``). A block that keeps its activations holds about
45 bytes per token and unit of width; a checkpointed block holds only its input (2 bytes). The
estimate can be approximate, because a step that runs out of memory falls back to the next option.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from iclora.errors import BadConfig
from schemas.training import TrainParams

KEPT_BYTES, INPUT_BYTES = 45, 2
"""Activation bytes per token, block, and unit of width: kept, and with recomputation."""

BASE_BYTES = {"dense": 2.0, "fp8": 1.27, "nf4": 0.56}
"""Bytes per base parameter: bf16, float8 with bf16 modulation layers, and nf4 with scales."""

ADAPTER_BYTES = 20
"""Bytes per trained parameter: float32 weight, gradient, two moments, and moving average."""

RESERVE = 1.5 * 2**30
"""Bytes reserved for allocator fragmentation, workspaces, and the driver."""

RECOMPUTE_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


class ModelShape(NamedTuple):
    """Model dimensions that determine memory use."""

    parameters: int
    adapter: int
    """Number of trained parameters."""

    blocks: int
    width: int


class MemoryOption(NamedTuple):
    """Recompute share and micro-batch size for a bucket."""

    share: float
    """Share of blocks that recompute their activations, 0-1."""

    micro_batch: int


def estimate_step_bytes(
    shape: ModelShape, weights: str, option: MemoryOption, tokens: int
) -> float:
    """Estimates the peak memory of a step, in bytes.

    Args:
        shape: shape of the model.
        weights: weight format: ``dense``, ``fp8``, or ``nf4``.
        option: recompute share and micro-batch size.
        tokens: sequence length of the canvas and its caption.
    """
    base = base_bytes(shape, weights) + shape.adapter * ADAPTER_BYTES
    again = round(option.share * shape.blocks)
    kept = (shape.blocks - again + (1 if again else 0)) * KEPT_BYTES
    live = (kept + again * INPUT_BYTES) * shape.width
    return base + RESERVE + live * tokens * option.micro_batch


def base_bytes(shape: ModelShape, weights: str) -> float:
    """Computes the memory of the frozen base, in bytes."""
    return shape.parameters * BASE_BYTES[weights]


def memory_options(batch: int, train: TrainParams) -> list[MemoryOption]:
    """Lists the options for a bucket, fastest first.

    Micro-batches shrink before recomputation grows: recomputation adds up to a third to the time of
    a step, while small micro-batches cost little once a single canvas saturates the device.
    """
    sizes = [train.micro_batch] if train.micro_batch else _halves(batch)
    if train.memory_plan == "fixed":
        return [MemoryOption(train.activation_checkpointing, size) for size in sizes]
    return [MemoryOption(share, size) for share in RECOMPUTE_SHARES for size in sizes]


def _halves(batch: int) -> list[int]:
    sizes = [batch]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    return sizes


def choose_weights(
    shape: ModelShape, train: TrainParams, tokens: int, free: float, available: tuple[str, ...]
) -> str:
    """Selects the configured weight format, or the highest precision at which one sample fits.

    Args:
        shape: shape of the model.
        train: training settings; uses ``weights`` and ``memory_plan``.
        tokens: sequence length of the largest canvas and its caption.
        free: free device memory, in bytes.
        available: supported weight formats, highest precision first.

    Raises:
        BadConfig: no format fits; the message states the required memory.
    """
    ways = available if train.weights == "auto" else (train.weights,)
    smallest = memory_options(1, train.model_copy(update={"micro_batch": 1}))[-1]
    for way in ways:
        if estimate_step_bytes(shape, way, smallest, tokens) <= free:
            return way
    need = estimate_step_bytes(shape, ways[-1], smallest, tokens)
    raise BadConfig(
        f"one sample needs about {need / 2**30:.1f} GiB with {ways[-1]} weights, but "
        f"{free / 2**30:.1f} GiB are free: lower data.resolutions or set train.weights"
    )


def options_that_fit(
    shape: ModelShape, weights: str, options: list[MemoryOption], tokens: int, free: float
) -> Iterator[MemoryOption]:
    """Yields the options from the first that fits onward, or only the last if none fits."""
    fits = [estimate_step_bytes(shape, weights, option, tokens) <= free for option in options]
    first = fits.index(True) if True in fits else len(options) - 1
    yield from options[first:]
