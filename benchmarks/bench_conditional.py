"""Whether conditional training helps: the loss on panels that are drawn while others are given.

Run: ``python benchmarks/bench_conditional.py [--store S --dataset D]``. Trains two adapters on the
same samples for equally many steps, one with ``train.conditional_probability`` and one without (an
adapter that is there already is taken), then measures both on the val sets: every choice of given
panels, the same noise and timesteps for all. Without a store, four films are made and built, which
takes minutes. The interval is a bootstrap over val sets.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iclora.build import build_dataset
from iclora.miniature.film import render_film
from iclora.models.families import GivenTokens
from iclora.presets import load_config
from iclora.store import Store
from iclora.train import train_adapter
from iclora.training.dataloader import latents_path
from iclora.training.latent_cache import stack_text
from iclora.training.lora import add_lora, load_start
from iclora.training.loss import MicroBatch, compute_losses, token_weights
from iclora.training.run_inputs import RunInputs, fill_caches, open_job, read_training_data
from iclora.training.sampler import seed_of
from iclora.training.samples import TrainingItem
from schemas.config import Config

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
DRAWS = 10_000
"""Resamples of the bootstrap."""


def subsets(panels: int) -> list[tuple[int, ...]]:
    """Every choice of given panels that leaves one to draw."""
    return [c for count in range(1, panels) for c in combinations(range(panels), count)]


def batch_of(job: RunInputs, item: TrainingItem, t: float, *, clean: bool) -> MicroBatch:
    """One row a choice of given panels, in the same noise; only drawn panels count."""
    (view,) = item.views.values()
    mean = job.cache.posterior(latents_path(job.cache, item, view)).mean
    noise = torch.randn(
        mean.shape, generator=torch.Generator().manual_seed(seed_of("conditional", item.key, t))
    )
    panel_of, learn = torch.from_numpy(view.panel_of), torch.from_numpy(view.learn)
    given = subsets(item.panels)
    rows = len(given)
    mask = torch.stack([torch.isin(panel_of, torch.tensor(choice)) for choice in given])
    text = job.cache.load(job.cache.text_path(item.caption))
    return MicroBatch(
        latents=mean.expand(rows, -1, -1),
        noise=noise.expand(rows, -1, -1),
        t=torch.full((rows,), t),
        text=stack_text([text] * rows),
        grid=view.grid,
        panel_of=panel_of.expand(rows, -1),
        weight=torch.stack([token_weights(panel_of, learn, choice, ()) for choice in given]),
        given=GivenTokens(mean.expand(rows, -1, -1), mask) if clean else None,
        timestep_weight=torch.ones(rows),
    )


@torch.no_grad()
def losses(job: RunInputs, items: list[TrainingItem], file: Path | None, *, clean: bool) -> Any:
    """``[sets, times]``: an adapter's mean loss on drawn panels; the bare base without a file."""
    transformer = job.family.load_transformer(job.base.folder, dtype=torch.float32)
    if file:
        rank = job.config.train.lora.rank
        load_start(add_lora(transformer, job.family, rank=rank, seed=0), file, job.family)

    def one(item: TrainingItem, t: float) -> float:
        batch = batch_of(job, item, t, clean=clean)
        return float(compute_losses(job.family, transformer, batch, guidance=1.0).samples.mean())

    return np.array([[one(item, t) for t in TIMES] for item in items])


def difference(ours: Any, theirs: Any) -> str:
    """The mean paired difference over sets, with its 95 % interval."""
    pairs = (ours - theirs).mean(axis=1)
    picks = np.random.default_rng(0).integers(0, len(pairs), (DRAWS, len(pairs)))
    low, high = np.quantile(pairs[picks].mean(axis=1), [0.025, 0.975])
    return f"{pairs.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def arguments() -> argparse.Namespace:
    asks = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asks.add_argument("--store", help="one that holds the dataset; without it four films are made")
    asks.add_argument("--dataset", default="demo")
    asks.add_argument("--share", type=float, default=0.5, help="train.conditional_probability")
    asks.add_argument("--steps", type=int, default=300)
    asks.add_argument(
        "--only", choices=("plain",), help="train the first and stop, the rest another time"
    )
    return asks.parse_args()


def build_films(folder: Path, name: str) -> Store:
    films = [folder / f"film-{seed}.mp4" for seed in range(1, 5)]
    for seed, film in enumerate(films, start=1):
        render_film(seed, film)
    store = Store(str(folder / "store"))
    build_dataset(store, [str(film) for film in films], load_config("miniature"), name)
    return store


def configured(asked: argparse.Namespace, share: float) -> Config:
    changes = {
        "train.steps": asked.steps, "train.conditional_probability": share,
        "train.validate_samples": 10_000,
        "train.save_every": 100,
    }  # fmt: skip
    return load_config("miniature", changes)


def main() -> None:
    asked = arguments()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(asked.store) if asked.store else build_films(Path(folder), asked.dataset)
        files: dict[str, Path] = {}
        for name, share in (("plain", 0.0), ("conditional", asked.share)):
            ref = train_adapter(store, asked.dataset, configured(asked, share), name)
            files[name] = Path(ref.url) / f"{name}.safetensors"
            if asked.only == name:
                return
        job = open_job(store, asked.dataset, configured(asked, 0.0), "measured")
        token_pixels = job.family.token_pixels(job.base.folder)
        material = read_training_data(job.dataset, job.config.data, job.config.train, token_pixels)
        fill_caches(job, material, torch.device("cpu"))
        report(job, material.val, files, asked)


def report(
    job: RunInputs, items: list[TrainingItem], files: dict[str, Path], asked: argparse.Namespace
) -> None:
    found = {
        "conditional, panels given": losses(job, items, files["conditional"], clean=True),
        "plain, panels given": losses(job, items, files["plain"], clean=True),
        "plain, panels noisy": losses(job, items, files["plain"], clean=False),
        "conditional, panels noisy": losses(job, items, files["conditional"], clean=False),
        "base alone, panels noisy": losses(job, items, None, clean=False),
    }
    ours = found["conditional, panels given"]
    print(f"{len(items)} val sets, {asked.steps} steps each, conditional {asked.share:g}\n")
    times = " | ".join(f"t={t:g}" for t in TIMES)
    print(f"| adapter, and what it sees | loss | {times} | conditional, given, minus this |")
    print("|---|---|" + "---|" * len(TIMES) + "---|")
    for name, values in found.items():
        cells = " | ".join(f"{value:.4f}" for value in values.mean(axis=0))
        gap = "" if values is ours else difference(ours, values)
        print(f"| {name} | {values.mean():.4f} | {cells} | {gap} |")


if __name__ == "__main__":
    main()
