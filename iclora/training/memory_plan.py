"""The ladder of each bucket while a run is under way."""

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
    """How this machine can hold a base, densest first."""
    nf4 = importlib.util.find_spec("bitsandbytes") is not None
    return ("dense", "fp8", "nf4") if nf4 else ("dense", "fp8")


class MemoryPlan:
    """Where every bucket stands: a rung is what is tried now, the ones below are left.

    On a CPU there is one rung a bucket, as configured, unless memory runs out.
    """

    def __init__(self, train: TrainParams, recompute: ActivationCheckpointing, share: int) -> None:
        self._train = train
        self._recompute = recompute
        self._options: dict[Grid, list[MemoryOption]] = {}
        self._batch = share

    def plan(
        self, shape: ModelShape, weights: str, tokens: Mapping[Grid, int], free: float
    ) -> None:
        """Chooses rungs from measured free memory (bytes)."""
        options = memory_options(self._batch, self._train)
        for grid, count in tokens.items():
            self._options[grid] = list(options_that_fit(shape, weights, options, count, free))

    def equalize(self) -> None:
        """Makes all buckets recompute alike: processes that share a base must run alike."""
        if self._options:
            share = max(options[0].share for options in self._options.values())
            for options in self._options.values():
                options[0] = options[0]._replace(share=share)

    def option(self, grid: Grid) -> MemoryOption:
        """How a bucket is run now."""
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
        """Prepares the transformer for a micro-batch of this bucket."""
        self._recompute.set_share(self.option(grid).share)

    def fall_back(self, grid: Grid) -> bool:
        """After memory ran out: the next rung; false if there is none."""
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
        """One clause a bucket."""
        return ", ".join(
            f"{grid.rows}x{grid.columns}: micro-batch {options[0].micro_batch}, "
            f"recompute {options[0].share:g}"
            for grid, options in sorted(self._options.items())
        )


def _lighter(option: MemoryOption, than: MemoryOption) -> bool:
    return option != than and option.share >= than.share and option.micro_batch <= than.micro_batch


def free_bytes(device: torch.device) -> float:
    """Free memory of a GPU."""
    return float(torch.cuda.mem_get_info(device)[0])
