"""Step time, HFU and peak memory of a training step at FLUX.1 [dev]'s full size on a GPU.

Run: ``python benchmarks/bench_gpu.py --base FOLDER`` on a data-centre GPU. Without weights in
FOLDER it writes random ones there first (24 GB; shapes and types are the released ones, and speed
does not depend on the values). Prints one row as soon as it is measured; the whole takes about an
hour. ``--modes``, ``--sizes``, ``--shares`` and ``--compile`` choose rows; with a small base it
runs on a CPU, to try the script out. HFU counts what is executed, recomputation included, with
torch's counter on the first step of a shape.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from iclora.errors import IcloraError
from iclora.models.families import Grid, load_family
from iclora.models.families.flux1 import read_config
from iclora.training.activation_checkpointing import ActivationCheckpointing
from iclora.training.lora import add_lora
from iclora.training.loss import MicroBatch, autocast, compute_losses
from iclora.training.optimizer import AdapterOptimizer
from iclora.training.perf import count_flops, peak_flops, peak_memory
from iclora.training.run_inputs import free_memory
from schemas.training import OptimizerParams

FAMILY = load_family("flux1")
WEIGHTS = {"bf16": "", "fp8": "fp8", "nf4": "nf4"}


class Row(NamedTuple):
    """One way to run a step."""

    mode: str
    width: int
    height: int
    share: float
    compiled: bool

    def text(self, *values: str) -> str:
        """A line of the table."""
        again = f"{self.share:.0%}"
        compiled = "yes" if self.compiled else "no"
        cells = (f"{self.width}x{self.height}", self.mode, again, compiled, *values)
        return "| " + " | ".join(cells) + " |"


def write_random(folder: Path) -> None:
    """FLUX.1 [dev]'s transformer with random weights, as a pipeline's folder."""
    model = FAMILY.meta_transformer().to(torch.bfloat16).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.normal_(0.0, 0.02)
    model.save_pretrained(folder / "transformer", max_shard_size="5GB")


def batch_of(
    transformer: Any, row: Row, step: int, tokens: int, device: torch.device
) -> MicroBatch:
    config = transformer.config
    grid, texts = Grid(row.height // step, row.width // step), (1, tokens)
    count, channels = grid.count, FAMILY.token_channels(transformer)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device)

    return MicroBatch(
        latents=random(1, count, channels),
        noise=random(1, count, channels),
        t=torch.tensor([0.5], device=device),
        text={
            "embeds": random(*texts, config.joint_attention_dim),
            "pooled": random(1, config.pooled_projection_dim),
        },
        grid=grid,
        panel_of=torch.zeros(1, count, dtype=torch.int64, device=device),
        weight=torch.ones(1, count, device=device),
        given=None,
        timestep_weight=torch.ones(1, device=device),
    )


class Bench:
    """A base in one mode, and what was counted of it."""

    flops: dict[tuple[int, int, float], int] = {}
    """By width, height and share; the same in every mode."""

    def __init__(self, args: argparse.Namespace, mode: str) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.transformer = FAMILY.load_transformer(
            args.base, dtype=torch.bfloat16, device=self.device, weights=WEIGHTS[mode]
        )
        tensors = add_lora(self.transformer, FAMILY, rank=16, seed=0)
        self.learner = AdapterOptimizer(tensors, OptimizerParams(), 10)
        self.recompute = ActivationCheckpointing(self.transformer)
        self.token = FAMILY.token_pixels(args.base) if (args.base / "vae").is_dir() else 16

    def measure(self, row: Row) -> str:
        """A row of the table."""
        batch = batch_of(self.transformer, row, self.token, self.args.text, self.device)
        self.recompute.set_share(row.share)
        key = (row.width, row.height, row.share)
        try:
            if key not in Bench.flops:
                Bench.flops[key], _ = count_flops(lambda: self.step(batch))
            self.rest()
            times = [self.timed(batch) for _ in range(self.args.warm + self.args.steps)]
        except torch.OutOfMemoryError:
            return row.text("out of memory", "", "")
        seconds, peak = statistics.median(times[self.args.warm :]), peak_flops(self.device)
        hfu = f"{Bench.flops[key] / seconds / peak:.0%}" if peak > 0 else "-"
        memory = peak_memory(self.device)
        return row.text(f"{seconds:.3f}", hfu, f"{memory:.1f}" if memory >= 0 else "-")

    def step(self, batch: MicroBatch) -> None:
        """Forward, backward, clipping, optimizer and moving average."""
        self.learner.zero_grad()
        with autocast("bf16", self.device):
            loss = compute_losses(FAMILY, self.transformer, batch, guidance=1.0).samples.sum()
        loss.backward()
        self.learner.gradient_norm()
        self.learner.update(0)

    def timed(self, batch: MicroBatch) -> float:
        """Seconds of a step."""
        start = time.perf_counter()
        self.step(batch)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def rest(self) -> None:
        """Forgets the peak so far."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def pair(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)


def arguments() -> argparse.Namespace:
    cuda = torch.cuda.is_available()
    asks = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asks.add_argument("--base", type=Path, required=True, help="folder of a pipeline; may be new")
    asks.add_argument("--modes", nargs="+", choices=WEIGHTS, default=list(WEIGHTS))
    asks.add_argument(
        "--sizes", nargs="+", type=pair, default=["512x512", "1024x1024", "1024x1536"]
    )
    asks.add_argument("--shares", nargs="+", type=float, default=[0.0, 1.0])
    asks.add_argument("--compile", choices=("no", "also"), default="also" if cuda else "no")
    asks.add_argument("--text", type=int, default=512, help="tokens of a caption")
    asks.add_argument("--steps", type=int, default=8)
    asks.add_argument("--warm", type=int, default=2)
    asks.add_argument("--device", default="cuda" if cuda else "cpu")
    found = asks.parse_args()
    found.sizes = [pair(size) if isinstance(size, str) else size for size in found.sizes]
    return found


def main() -> None:
    args = arguments()
    if not (args.base / "transformer" / "config.json").is_file():
        write_random(args.base)
    read_config(args.base, "transformer")
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, batch 1, rank 16, {args.text} caption tokens\n")
    print("| canvas | base | recomputed | compiled | s/step | HFU | peak GiB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for mode in args.modes:
        rows = [
            Row(mode, *size, share, compiled)
            for compiled in ((False, True) if args.compile == "also" else (False,))
            for size in args.sizes
            for share in args.shares
        ]
        run_mode(args, mode, rows)


def run_mode(args: argparse.Namespace, mode: str, rows: list[Row]) -> None:
    free_memory()  # of the mode before, whose parts refer to each other
    torch.compiler.reset()
    try:
        bench = Bench(args, mode)
    except (IcloraError, torch.OutOfMemoryError) as error:
        print(f"\n{mode}: not measured: {error}\n", flush=True)
        return
    compiled = False
    for row in rows:
        if row.compiled and not compiled:
            bench.transformer.compile_repeated_blocks(dynamic=True)
            compiled = True
        print(bench.measure(row), flush=True)


if __name__ == "__main__":
    main()
