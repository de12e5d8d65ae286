"""Making a step fit into the device: weights, recomputed blocks, micro-batches.

The estimate comes from what autograd keeps of FLUX.1's blocks under bf16 autocast with a float32
adapter (``iclora.training.lora_forward``): a block that keeps its activations holds about 45 bytes
a token and unit of width, one that recomputes holds its input (2 bytes). It only has to be near: a
step that fails all the same goes down the ladder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from iclora.errors import BadConfig
from schemas.training import TrainParams

KEPT_BYTES, INPUT_BYTES = 45, 2
"""Activations a token, block and unit of width: kept, and with recomputation."""

BASE_BYTES = {"dense": 2.0, "fp8": 1.27, "nf4": 0.56}
"""A parameter's bytes: bf16; float8 with the modulation left in bf16; nf4 with its scales."""

ADAPTER_BYTES = 20
"""A trained parameter's: weight, gradient, two moments, moving average; all float32."""

RESERVE = 1.5 * 2**30
"""Bytes left for the allocator's gaps, workspaces and the driver."""

RECOMPUTE_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


class ModelShape(NamedTuple):
    """What of a model decides its memory."""

    parameters: int
    adapter: int
    """Trained parameters."""

    blocks: int
    width: int


class MemoryOption(NamedTuple):
    """One way to run a bucket."""

    share: float
    """Of the blocks that recompute."""

    micro_batch: int


def estimate_step_bytes(
    shape: ModelShape, weights: str, option: MemoryOption, tokens: int
) -> float:
    """What a step is expected to take at its peak.

    Args:
        shape: of the model.
        weights: ``dense``, ``fp8`` or ``nf4``.
        option: how it is run.
        tokens: of the canvas and its caption.
    """
    base = base_bytes(shape, weights) + shape.adapter * ADAPTER_BYTES
    again = round(option.share * shape.blocks)
    kept = (shape.blocks - again + (1 if again else 0)) * KEPT_BYTES
    live = (kept + again * INPUT_BYTES) * shape.width
    return base + RESERVE + live * tokens * option.micro_batch


def base_bytes(shape: ModelShape, weights: str) -> float:
    """What the frozen base takes."""
    return shape.parameters * BASE_BYTES[weights]


def memory_options(batch: int, train: TrainParams) -> list[MemoryOption]:
    """Ways to run a bucket, the quickest first.

    Recomputing costs a third of a step, small micro-batches almost nothing once a canvas keeps the
    device busy, so micro-batches are cut first.
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
    """How to hold the base: as asked, or the densest way with which one sample fits.

    Args:
        shape: of the model.
        train: ``weights`` and ``plan`` are read.
        tokens: of the largest canvas and its caption.
        free: bytes on the device.
        available: what this machine can do, densest first.

    Raises:
        BadConfig: nothing fits; the text says what would be needed.
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
    """The ladder from the first rung that fits on; at least its last."""
    fits = [estimate_step_bytes(shape, weights, option, tokens) <= free for option in options]
    first = fits.index(True) if True in fits else len(options) - 1
    yield from options[first:]
