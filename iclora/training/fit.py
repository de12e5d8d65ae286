"""The ladder of each bucket while a run is under way."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping

import torch

from iclora.models.families import Grid
from iclora.training.blocks import Recompute
from iclora.training.fitting import Rung, Shape, ladder, rungs_that_fit
from schemas.training import TrainParams

log = logging.getLogger(__name__)


def available_weights() -> tuple[str, ...]:
    """How this machine can hold a base, densest first."""
    nf4 = importlib.util.find_spec("bitsandbytes") is not None
    return ("dense", "fp8", "nf4") if nf4 else ("dense", "fp8")


class Ladders:
    """Where every bucket stands: a rung is what is tried now, the ones below are left.

    On a CPU there is one rung a bucket, as configured, unless memory runs out.
    """

    def __init__(self, train: TrainParams, recompute: Recompute, share: int) -> None:
        self._train = train
        self._recompute = recompute
        self._rungs: dict[Grid, list[Rung]] = {}
        self._batch = share

    def plan(self, shape: Shape, weights: str, tokens: Mapping[Grid, int], free: float) -> None:
        """Chooses rungs from measured free memory (bytes)."""
        rungs = ladder(self._batch, self._train)
        for grid, count in tokens.items():
            self._rungs[grid] = list(rungs_that_fit(shape, weights, rungs, count, free))

    def level(self) -> None:
        """Makes all buckets recompute alike: processes that share a base must run alike."""
        if self._rungs:
            share = max(rungs[0].share for rungs in self._rungs.values())
            for rungs in self._rungs.values():
                rungs[0] = rungs[0]._replace(share=share)

    def rung(self, grid: Grid) -> Rung:
        """How a bucket is run now."""
        if grid not in self._rungs:
            asked = Rung(self._train.checkpoint_blocks, self._train.micro_batch or self._batch)
            below = [rung for rung in ladder(self._batch, self._train) if _lighter(rung, asked)]
            self._rungs[grid] = [asked, *below]
        return self._rungs[grid][0]

    def use(self, grid: Grid) -> None:
        """Prepares the transformer for a micro-batch of this bucket."""
        self._recompute.use(self.rung(grid).share)

    def step_down(self, grid: Grid) -> bool:
        """After memory ran out: the next rung; false if there is none."""
        self.rung(grid)
        rungs = self._rungs[grid]
        if len(rungs) == 1:
            return False
        rungs.pop(0)
        log.warning(
            "out of memory at %dx%d tokens: from now on %.0f %% of the blocks recompute and "
            "micro-batches hold %d",
            *grid,
            100 * rungs[0].share,
            rungs[0].micro_batch,
        )
        return True

    def describe(self) -> str:
        """One clause a bucket."""
        return ", ".join(
            f"{grid.rows}x{grid.columns}: micro-batch {rungs[0].micro_batch}, "
            f"recompute {rungs[0].share:g}"
            for grid, rungs in sorted(self._rungs.items())
        )


def _lighter(rung: Rung, than: Rung) -> bool:
    return rung != than and rung.share >= than.share and rung.micro_batch <= than.micro_batch


def free_bytes(device: torch.device) -> float:
    """Free memory of a GPU."""
    return float(torch.cuda.mem_get_info(device)[0])
