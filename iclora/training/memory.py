"""Memory estimates, and the options that make a step fit on the device.

The estimate may be approximate: a step that runs out of memory falls back to the next option.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from typing import NamedTuple

import torch

from iclora.errors import BadConfig
from iclora.models.families import Grid
from iclora.training.activation_checkpointing import ActivationCheckpointing
from schemas.training import TrainParams

log = logging.getLogger(__name__)

KEPT_BYTES, INPUT_BYTES = 45, 2
"""Activation bytes per token, block, and unit of width: kept, and with recomputation.

For FLUX.1 blocks under bf16 autocast with a float32 adapter (``iclora.training.lora``).
"""

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


def free_bytes(device: torch.device) -> float:
    """Returns the free memory of a GPU, in bytes."""
    return float(torch.cuda.mem_get_info(device)[0])


def available_weights() -> tuple[str, ...]:
    """Lists the weight formats that this machine supports, highest precision first."""
    nf4 = importlib.util.find_spec("bitsandbytes") is not None
    return ("dense", "fp8", "nf4") if nf4 else ("dense", "fp8")


def base_bytes(shape: ModelShape, weights: str) -> float:
    """Computes the memory of the frozen base, in bytes."""
    return shape.parameters * BASE_BYTES[weights]


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
    recomputed = round(option.share * shape.blocks)
    kept = (shape.blocks - recomputed + (1 if recomputed else 0)) * KEPT_BYTES
    live = (kept + recomputed * INPUT_BYTES) * shape.width
    return base + RESERVE + live * tokens * option.micro_batch


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
    formats = available if train.weights == "auto" else (train.weights,)
    smallest = memory_options(1, train.model_copy(update={"micro_batch": 1}))[-1]
    for weights in formats:
        if estimate_step_bytes(shape, weights, smallest, tokens) <= free:
            return weights
    need = estimate_step_bytes(shape, formats[-1], smallest, tokens)
    raise BadConfig(
        f"one sample needs about {need / 2**30:.1f} GiB with {formats[-1]} weights, but "
        f"{free / 2**30:.1f} GiB are free: lower data.resolutions or set train.weights"
    )


def memory_options(batch: int, train: TrainParams) -> list[MemoryOption]:
    """Lists the options for a bucket, fastest first.

    Micro-batches shrink before recomputation grows: recomputation adds up to a third to the time of
    a step, while small micro-batches cost little once a single canvas saturates the device.
    """
    sizes = [train.micro_batch or batch]
    while sizes[-1] > 1 and not train.micro_batch:
        sizes.append(sizes[-1] // 2)
    if train.memory_plan == "fixed":
        return [MemoryOption(train.activation_checkpointing, size) for size in sizes]
    return [MemoryOption(share, size) for share in RECOMPUTE_SHARES for size in sizes]


def options_that_fit(
    shape: ModelShape, weights: str, options: list[MemoryOption], tokens: int, free: float
) -> list[MemoryOption]:
    """Returns the options from the first that fits onward, or only the last if none fits."""
    for number, option in enumerate(options):
        if estimate_step_bytes(shape, weights, option, tokens) <= free:
            return options[number:]
    return options[-1:]


class MemoryPlan:
    """Current memory option of each bucket, with its remaining fallbacks.

    On a CPU, each bucket uses the configured option unless memory runs out.
    """

    def __init__(self, train: TrainParams, recompute: ActivationCheckpointing, batch: int) -> None:
        self._train = train
        self._recompute = recompute
        self._options: dict[Grid, list[MemoryOption]] = {}
        self._batch = batch  # samples of a step on this process

    def plan(
        self, shape: ModelShape, weights: str, tokens: Mapping[Grid, int], free: float
    ) -> None:
        """Selects the options of each bucket from the measured free memory, in bytes."""
        options = memory_options(self._batch, self._train)
        for grid, count in tokens.items():
            self._options[grid] = options_that_fit(shape, weights, options, count, free)

    def equalize(self) -> None:
        """Sets one recompute share for all buckets, as a sharded base requires."""
        if self._options:
            share = max(options[0].share for options in self._options.values())
            for options in self._options.values():
                options[0] = options[0]._replace(share=share)

    def option(self, grid: Grid) -> MemoryOption:
        """Returns the current option of a bucket."""
        if grid not in self._options:
            share, size = self._train.activation_checkpointing, self._train.micro_batch
            requested = MemoryOption(share, size or self._batch)
            lighter = [
                option
                for option in memory_options(self._batch, self._train)
                if option != requested
                and option.share >= requested.share
                and option.micro_batch <= requested.micro_batch
            ]
            self._options[grid] = [requested, *lighter]
        return self._options[grid][0]

    def apply(self, grid: Grid) -> None:
        """Configures activation checkpointing for a micro-batch of this bucket."""
        self._recompute.set_share(self.option(grid).share)

    def fall_back(self, grid: Grid) -> bool:
        """Switches a bucket to its next option; returns false if none remains."""
        self.option(grid)
        options = self._options[grid]
        if len(options) == 1:
            return False
        options.pop(0)
        log.warning(
            "out of memory at %dx%d tokens: from now on %.0f %% of the blocks recompute and "
            "micro-batches hold %d",
            *grid,
            100 * options[0].share,
            options[0].micro_batch,
        )
        return True

    def describe(self) -> str:
        """Formats the current option of each bucket for logs and records."""
        return ", ".join(
            f"{grid.rows}x{grid.columns}: micro-batch {options[0].micro_batch}, "
            f"recompute {options[0].share:g}"
            for grid, options in sorted(self._options.items())
        )
