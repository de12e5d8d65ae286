"""Given panels help: the adapter that was trained with them draws the others better."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from training_config import with_train

from iclora.models.families import GivenTokens
from iclora.train import train_adapter
from iclora.training.dataloader import latents_path
from iclora.training.latent_cache import stack_text
from iclora.training.lora import add_lora, load_start
from iclora.training.loss import MicroBatch, compute_losses, token_weights
from iclora.training.run_inputs import fill_caches, open_job, read_training_data
from iclora.training.sampler import seed_of

GIVEN = (0, 1)
"""Panels that are shown while the third is measured."""

TIMES = (0.3, 0.5, 0.7, 0.9)


@pytest.fixture
def colours(store, publish, paint):
    """Sets whose panels share a colour that no caption tells."""
    chance = random.Random(0)

    def one(number, split):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 96), tuple(chance.randrange(256) for _ in range(3))).save(
            buffer, format="PNG"
        )
        drawn = paint(number, split=split, caption="[SCENE-1] a plain colour")
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        record = drawn.record.model_copy(update={"image_sha256": digest})
        return drawn._replace(record=record, image=buffer.getvalue())

    train = [one(number, "train") for number in range(64)]
    return publish(store, [*train, *(one(100 + number, "val") for number in range(16))])


@torch.no_grad()
def masked_loss(store, name, config, file, *, clean):
    """The third panel's loss on the val split; the others clean, or noisy like it."""
    job = open_job(store, name, config, "measured")
    material = read_training_data(job.dataset, config.data, config.train, 8)
    fill_caches(job, material, torch.device("cpu"))
    transformer = job.family.load_transformer(job.base.folder, dtype=torch.float32)
    tensors = add_lora(transformer, job.family, rank=config.train.lora.rank, seed=0)
    load_start(tensors, file, job.family)
    found = []
    for item in material.val:
        (view,) = item.views.values()
        mean = job.cache.posterior(latents_path(job.cache, item, view)).mean
        panel_of = torch.from_numpy(view.panel_of)
        shown = torch.isin(panel_of, torch.tensor(GIVEN))
        for t in TIMES:
            generator = torch.Generator().manual_seed(seed_of(item.key, t))
            batch = MicroBatch(
                latents=mean[None],
                noise=torch.randn(mean.shape, generator=generator)[None],
                t=torch.tensor([t]),
                text=stack_text([job.cache.load(job.cache.text_path(item.caption))]),
                grid=view.grid,
                panel_of=panel_of[None],
                weight=token_weights(panel_of, torch.from_numpy(view.learn), GIVEN, ())[None],
                given=GivenTokens(mean[None], shown[None]) if clean else None,
                timestep_weight=torch.ones(1),
            )
            found.append(
                float(compute_losses(job.family, transformer, batch, guidance=1.0).samples[0])
            )
    return sum(found) / len(found)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_conditional_training_lowers_the_loss_on_masked_panels(store, colours, config):
    def trained(name, share):
        asked = with_train(
            config, steps=450, batch=8, save_every=450, validate_every=0,
            conditional_probability=share, lora={"rank": 16, "save_dtype": "fp32"},
            optimizer={"lr": 2e-3},
        )  # fmt: skip
        ref = train_adapter(store, colours, asked, name)
        return asked, Path(ref.url) / f"{name}.safetensors"

    plain, conditional = trained("plain", 0.0), trained("conditional", 0.9)
    with_given = masked_loss(store, colours, *conditional, clean=True)
    never_learnt = masked_loss(store, colours, *plain, clean=True)
    put_back = masked_loss(store, colours, *plain, clean=False)
    print(
        f"loss on the masked panel: {with_given:.4f} conditional, {never_learnt:.4f} unconditional "
        f"with the same clean panels, {put_back:.4f} unconditional with them noisy"
    )
    assert with_given < 0.75 * never_learnt
    assert with_given < put_back
