"""What a training step costs over the bare arithmetic, and beside diffusers' own example loop.

Run: ``python benchmarks/bench_training.py [--store S --dataset D]``; prints one table. The real
loop runs with everything it does (data, clipping, moving average, journal, report), one epoch of it
unmeasured, in which it reads each sample's latents as the example loop does beforehand. Every ten
of its steps it is held while ten bare steps and ten of the example loop run with the same batch
size and samples, so that a busy machine slows all three alike; the first step after each hold is
left out, because its data was prepared meanwhile. The bare steps run on a copy of our model, the
example loop on the same base with the adapter put on as the example does it, by diffusers and peft
alone.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import (
    compute_density_for_timestep_sampling,
    compute_loss_weighting_for_sd3,
)
from torch.utils.data import DataLoader

from iclora.build import build_dataset
from iclora.dataset.reader import open_dataset
from iclora.miniature.film import render_film
from iclora.models.families.flux1 import position_ids
from iclora.presets import load_config
from iclora.store import Store
from iclora.training.dataloader import BatchLoader, latents_path
from iclora.training.distributed import DistEnv
from iclora.training.lora import lora_config
from iclora.training.loss import compute_losses
from iclora.training.run import build_trainer
from iclora.training.run_inputs import fill_caches, open_job, read_training_data
from iclora.training.signals import StopRequest

BLOCK = 10
"""Steps in a row of each kind."""

BARE = "bare forward, backward, optimizer"


def bare_steps(job, material, transformer):
    """Forward, backward and optimizer step on batches that are ready; a generator of nothing."""
    config = job.config
    feed = BatchLoader(material.train, job.cache, job.family, config.data, config.train, DistEnv())
    batches = [batch for step in range(BLOCK) for batch in feed.batch(step)]
    feed.close()
    trained = [tensor for tensor in transformer.parameters() if tensor.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.train.optimizer.lr, fused=True)
    while True:
        for batch in batches:
            compute_losses(job.family, transformer, batch, guidance=1.0).samples.mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            yield


def example_model(job):
    """The base with the adapter of the example: diffusers' ``add_adapter`` and nothing else."""
    transformer = job.family.load_transformer(job.base.folder, dtype=job.dtype)
    transformer.add_adapter(lora_config(job.family, job.config.train.lora.rank))
    return transformer


def example_steps(job, material, transformer):
    """The loop of diffusers' LoRA example for FLUX with latents cached, in its documented parts."""
    samples = []
    for item in material.train.values():
        (view,) = item.views.values()
        posterior = job.cache.posterior(latents_path(job.cache, item, view))
        text = job.cache.load(job.cache.text_path(item.caption))
        samples.append((posterior.mean, posterior.deviation, text["embeds"][0], text["pooled"][0]))
    data = DataLoader(samples, batch_size=job.config.train.batch, shuffle=True, drop_last=True)
    scheduler = FlowMatchEulerDiscreteScheduler()
    trained = [tensor for tensor in transformer.parameters() if tensor.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=job.config.train.optimizer.lr)
    rates = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    transformer, optimizer, data, rates = accelerator.prepare(transformer, optimizer, data, rates)
    ids = position_ids(view.grid, accelerator.device)
    while True:
        for mean, deviation, embeds, pooled in data:
            with accelerator.accumulate(transformer):
                latents = mean + deviation * torch.randn_like(mean)
                noise = torch.randn_like(latents)
                u = compute_density_for_timestep_sampling(
                    "none", batch_size=len(mean), logit_mean=0.0, logit_std=1.0, mode_scale=1.29
                )
                chosen = (u * scheduler.config.num_train_timesteps).long()
                timesteps, sigmas = scheduler.timesteps[chosen], scheduler.sigmas[chosen]
                sigmas = sigmas[:, None, None]
                predicted = transformer(
                    hidden_states=(1.0 - sigmas) * latents + sigmas * noise,
                    timestep=timesteps / 1000,
                    guidance=torch.ones(len(mean)),
                    pooled_projections=pooled,
                    encoder_hidden_states=embeds,
                    txt_ids=torch.zeros(embeds.shape[1], 3),
                    img_ids=ids,
                    return_dict=False,
                )[0]
                weighting = compute_loss_weighting_for_sd3("none", sigmas=sigmas)
                errors = weighting.float() * (predicted.float() - (noise - latents).float()) ** 2
                loss = errors.reshape(len(mean), -1).mean(1).mean()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(transformer.parameters(), 1.0)
                optimizer.step()
                rates.step()
                optimizer.zero_grad()
            loss.detach().item()  # it is logged
            yield


def timed(steps, times) -> None:
    for _ in range(BLOCK):
        start = time.perf_counter()
        next(steps)
        times.append(time.perf_counter() - start)


def arguments() -> argparse.Namespace:
    asks = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asks.add_argument("--store", help="one that holds the dataset; without it two films are made")
    asks.add_argument("--dataset", default="demo")
    asks.add_argument("--base", default="miniature/flux")
    asks.add_argument("--blocks", type=int, default=6, help="times ten steps of each kind")
    asks.add_argument("--batch", type=int, default=8)
    return asks.parse_args()


def build_films(folder: Path, name: str) -> str:
    """A store with a dataset of two films of the miniature; takes minutes."""
    films = [folder / f"film-{seed}.mp4" for seed in (1, 2)]
    for seed, film in enumerate(films, start=1):
        render_film(seed, film)
    store = Store(str(folder / "store"))
    build_dataset(store, [str(film) for film in films], load_config("miniature"), name)
    return store.url


def borrow(folder: Path, url: str) -> Store:
    """A store with another's datasets, so that nothing is written into that one."""
    store = Store(str(folder / "bench"))
    Path(store.root).mkdir()
    (Path(store.root) / "datasets").symlink_to(Path(Store(url).root) / "datasets")
    return store


def measure(asked: argparse.Namespace, store: Store) -> tuple[dict[str, list[float]], float]:
    """Seconds of each kind of step, and the share of ours spent waiting for data."""
    epoch = -(-len(list(open_dataset(store, asked.dataset).samples("train"))) // asked.batch)
    steps = epoch + BLOCK * asked.blocks
    changes = {
        "base.model": asked.base, "train.steps": steps, "train.validate_every": 0,
        "train.save_every": steps, "train.batch": asked.batch,
    }  # fmt: skip
    config = load_config("miniature", changes)
    job, team = open_job(store, asked.dataset, config, "bench"), DistEnv()
    token_pixels = job.family.token_pixels(job.base.folder)
    material = read_training_data(job.dataset, config.data, config.train, token_pixels)
    fill_caches(job, material, team.device)
    job.work_folder.mkdir(parents=True)
    loop = build_trainer(job, material, team)
    rivals = {
        BARE: bare_steps(job, material, copy.deepcopy(loop.context.transformer)),
        "diffusers' example loop": example_steps(job, material, example_model(job)),
    }
    for rival in rivals.values():
        next(rival)  # warm
    return interleave(loop, rivals, epoch)


def interleave(loop, rivals, epoch: int) -> tuple[dict[str, list[float]], float]:
    times: dict[str, list[float]] = {name: [] for name in ("iclora", *rivals)}
    waits: list[float] = []
    last = [time.perf_counter(), 0.0]

    def watch(report) -> None:
        now, waited, step = (
            time.perf_counter(),
            loop.train_step.seconds_waiting,
            report.step - epoch,
        )
        if step > 0 and step % BLOCK != 1:
            times["iclora"].append(now - last[0])
            waits.append(waited - last[1])
        if step > 0 and step % BLOCK == 0:
            for name, steps in rivals.items():
                timed(steps, times[name])
        last[:] = time.perf_counter(), waited

    loop.train(StopRequest(), watch)
    return times, sum(waits) / sum(times["iclora"])


def main() -> None:
    asked = arguments()
    threads = int(os.environ.get("OMP_NUM_THREADS", "0")) or torch.get_num_threads()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        url = asked.store or build_films(Path(folder), asked.dataset)
        times, waited = measure(asked, borrow(Path(folder), url))
    report_table(times, waited, f"{asked.base}, batch {asked.batch}, {threads} threads")


def report_table(times, waited, setting) -> None:
    bare = statistics.median(times[BARE])
    print(f"{setting}; median of {len(times['iclora'])} steps\n")
    print("| step | ms | over bare |\n|---|---|---|")
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"| {name} | {1000 * middle:.1f} | {middle / bare:.3f} |")
    print(f"\nwaiting for data: {waited:.2%} of our steps")


if __name__ == "__main__":
    main()
