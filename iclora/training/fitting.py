"""Making a step fit into the device: weights, recomputed blocks, micro-batches.

The estimate comes from what autograd keeps of FLUX.1's blocks under bf16 autocast with a float32
adapter (``iclora.training.branch``): a block that keeps its activations holds about 45 bytes a
token and unit of width, one that recomputes holds its input (2 bytes). It only has to be near: a
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

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Shape(NamedTuple):
    """What of a model decides its memory."""

    parameters: int
    adapter: int
    """Trained parameters."""

    blocks: int
    width: int


class Rung(NamedTuple):
    """One way to run a bucket."""

    share: float
    """Of the blocks that recompute."""

    micro_batch: int


def bytes_of(shape: Shape, weights: str, rung: Rung, tokens: int) -> float:
    """What a step is expected to take at its peak.

    Args:
        shape: of the model.
        weights: ``dense``, ``fp8`` or ``nf4``.
        rung: how it is run.
        tokens: of the canvas and its caption.
    """
    base = taken_bytes(shape, weights) + shape.adapter * ADAPTER_BYTES
    again = round(rung.share * shape.blocks)
    kept = (shape.blocks - again + (1 if again else 0)) * KEPT_BYTES
    live = (kept + again * INPUT_BYTES) * shape.width
    return base + RESERVE + live * tokens * rung.micro_batch


def taken_bytes(shape: Shape, weights: str) -> float:
    """What the frozen base takes."""
    return shape.parameters * BASE_BYTES[weights]


def ladder(batch: int, train: TrainParams) -> list[Rung]:
    """Ways to run a bucket, the quickest first.

    Recomputing costs a third of a step, small micro-batches almost nothing once a canvas keeps the
    device busy, so micro-batches are cut first.
    """
    sizes = [train.micro_batch] if train.micro_batch else _halves(batch)
    if train.plan == "fixed":
        return [Rung(train.checkpoint_blocks, size) for size in sizes]
    return [Rung(share, size) for share in SHARES for size in sizes]


def _halves(batch: int) -> list[int]:
    sizes = [batch]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    return sizes


def choose_weights(
    shape: Shape, train: TrainParams, tokens: int, free: float, available: tuple[str, ...]
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
    smallest = ladder(1, train.model_copy(update={"micro_batch": 1}))[-1]
    for way in ways:
        if bytes_of(shape, way, smallest, tokens) <= free:
            return way
    need = bytes_of(shape, ways[-1], smallest, tokens)
    raise BadConfig(
        f"one sample needs about {need / 2**30:.1f} GiB with {ways[-1]} weights, but "
        f"{free / 2**30:.1f} GiB are free: lower data.resolutions or set train.weights"
    )


def rungs_that_fit(
    shape: Shape, weights: str, rungs: list[Rung], tokens: int, free: float
) -> Iterator[Rung]:
    """The ladder from the first rung that fits on; at least its last."""
    fits = [bytes_of(shape, weights, rung, tokens) <= free for rung in rungs]
    first = fits.index(True) if True in fits else len(rungs) - 1
    yield from rungs[first:]
