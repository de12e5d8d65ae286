"""The miniature's table: what its FLUX draws, and what the demo's adapter adds.

Run: ``python benchmarks/bench_miniature.py FOLDER [captions]`` (``make bench-miniature``); prints
one table. It renders the demo's films, builds the dataset and trains the adapter by the commands
that a person would type, with the preset's settings, then draws held-out combinations with base and
adapter, from the same noise. What FOLDER holds from an earlier run is used again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

from iclora.miniature.demo import render_demo
from iclora.miniature.reader import load_reader
from iclora.models.locate import locate
from iclora.presets import load_config
from recipes.flux_eval import (
    Share,
    draw_mosaics,
    draw_singles,
    obedience,
    sheet,
)
from recipes.flux_pool import open_pool
from recipes.flux_sets import (
    LOOKS_CAPTIONS,
    LOOKS_SEEDS,
    SetFigures,
    measure_sets,
)
from recipes.vae import measure_autoencoder

MEASURED_PANELS = 1000
COLUMNS = 12


def command(folder: Path, *arguments: str) -> tuple[dict[str, Any], float]:
    """The answer of an ``iclora`` command, and its minutes."""
    start = time.perf_counter()
    called = [sys.executable, "-m", "iclora", *arguments, "--store", str(folder / "store")]
    done = subprocess.run([*called, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout), (time.perf_counter() - start) / 60


def told(share: Share) -> str:
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


def row(what: str, share: Share | str, floor: str, goal: str = "") -> None:
    text = share if isinstance(share, str) else told(share)
    print(f"| {what} | {text} | {floor} | {goal} |")


def both(what: str, base: Share, adapter: Share, floor: str, goal: str = "") -> None:
    row(what, f"{told(base)} -> {told(adapter)}", floor, goal)


def pair(what: str, arms: tuple[SetFigures, SetFigures], group: str, names: list[str]) -> None:
    """One line an attribute, base and adapter."""
    base, adapter = (getattr(arm, group) for arm in arms)
    for name in names:
        both(f"{what}: {name}", base[name], adapter[name], "")


def single_panels(pipeline: FluxPipeline, folder: Path, count: int, way: dict[str, Any]) -> None:
    """What the base alone is measured on."""
    reader, pool = load_reader(), open_pool(folder / "measuring", MEASURED_PANELS, measuring=True)
    decibels = f"{measure_autoencoder(pipeline.vae, pool.pictures):.1f}"
    row("VAE, held-out PSNR (dB)", decibels, "30", "34")
    singles = obedience(draw_singles(pipeline, count, **way), reader)
    row("singles, named attributes", singles["all"], ".85", ".95")
    clauses = obedience(draw_mosaics(pipeline, count, **way), reader)
    for name in ("shot", "action", "place"):
        row(f"triptychs of the base, own clause: {name}", clauses[name], ".75", ".9")


def sets(base: SetFigures, adapter: SetFigures) -> None:
    """What base and adapter make of whole sets."""
    arms = (base, adapter)
    for group, floor, goal in (("identity", ".65", ".85"), ("setting", ".80", ".95")):
        row(f"control: {group} of panels of different sets", base.control[group], "")
        both(f"agreement, {group}", base.agreement[group], adapter.agreement[group], floor, goal)
    pair("agreement", arms, "agreement", ["hair", "hat", "shirt", "place", "light"])
    both("told in full, all named", base.tales["all"], adapter.tales["all"], "the base's")
    pair("stories, own clause", arms, "stories", ["shot", "action"])
    both(
        f"looks of {LOOKS_SEEDS} seeds, {LOOKS_CAPTIONS} captions", base.looks, adapter.looks, "28"
    )
    row("seconds a triptych", f"{base.seconds} -> {adapter.seconds}", "<= 2")


def main() -> None:
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    films = str(render_demo(folder / "films"))
    _, building = command(folder, "build", films, "--preset", "miniature", "--name", "demo")
    trained, training = command(folder, "train", "demo", "--name", "demo")
    params = load_config("miniature").sample
    way: dict[str, Any] = {"steps": params.steps, "true_cfg": params.true_cfg}
    pipeline: Any = FluxPipeline.from_pretrained(locate("miniature/flux").folder)
    pipeline.set_progress_bar_config(disable=True)
    print(
        f"{count} captions of each kind, {params.steps} steps, true CFG {params.true_cfg:g}, "
        f"{torch.get_num_threads()} threads; building {building:.1f} min, training "
        f"{training:.1f} min\n\n"
        "| base, or base -> adapter | measured | floor | goal |\n|---|---|---|---|"
    )
    single_panels(pipeline, folder, count, way)
    base, pictures = measure_sets(pipeline, count, **way)
    sheet(pictures[: 2 * COLUMNS], COLUMNS).save(folder / "base.png")
    pipeline.load_lora_weights(str(Path(trained["url"]) / "demo.safetensors"))
    adapter, pictures = measure_sets(pipeline, count, **way)
    sheet(pictures[: 2 * COLUMNS], COLUMNS).save(folder / "adapter.png")
    sets(base, adapter)


if __name__ == "__main__":
    main()
