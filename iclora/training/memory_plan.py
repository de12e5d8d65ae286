"""Memory options of each bucket during a run, with fallback after running out of memory."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping

import torch

from iclora.models.families import Grid
from iclora.training.activation_checkpointing import ActivationCheckpointing
from iclora.training.memory import MemoryOption, ModelShape, memory_options, options_that_fit
from schemas.training import TrainParams

log = logging.getLogger(__name__)


def available_weights() -> tuple[str, ...]:
    """Lists the weight formats that this machine supports, highest precision first."""
    nf4 = importlib.util.find_spec("bitsandbytes") is not None
    return ("dense", "fp8", "nf4") if nf4 else ("dense", "fp8")


class MemoryPlan:
    """Current memory option of each bucket, with its remaining fallbacks.

    On a CPU, each bucket uses the configured option unless memory runs out.
    """

    def __init__(self, train: TrainParams, recompute: ActivationCheckpointing, share: int) -> None:
        self._train = train
        self._recompute = recompute
        self._options: dict[Grid, list[MemoryOption]] = {}
        self._batch = share

    def plan(
        self, shape: ModelShape, weights: str, tokens: Mapping[Grid, int], free: float
    ) -> None:
        """Selects the options of each bucket from the measured free memory, in bytes."""
        options = memory_options(self._batch, self._train)
        for grid, count in tokens.items():
            self._options[grid] = list(options_that_fit(shape, weights, options, count, free))

    def equalize(self) -> None:
        """Sets one recompute share for all buckets, as a sharded base requires."""
        if self._options:
            share = max(options[0].share for options in self._options.values())
            for options in self._options.values():
                options[0] = options[0]._replace(share=share)

    def option(self, grid: Grid) -> MemoryOption:
        """Returns the current option of a bucket."""
        if grid not in self._options:
            requested = MemoryOption(
                self._train.activation_checkpointing, self._train.micro_batch or self._batch
            )
            below = [
                rung
                for rung in memory_options(self._batch, self._train)
                if _lighter(rung, requested)
            ]
            self._options[grid] = [requested, *below]
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


def _lighter(option: MemoryOption, than: MemoryOption) -> bool:
    return option != than and option.share >= than.share and option.micro_batch <= than.micro_batch


def free_bytes(device: torch.device) -> float:
    """Returns the free memory of a GPU, in bytes."""
    return float(torch.cuda.mem_get_info(device)[0])
