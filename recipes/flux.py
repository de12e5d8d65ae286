"""Trains the miniature FLUX's base: ``python -m recipes.flux OUT --steps N``.

Everything before it (pool, autoencoder, text encoders) is made or gone on with first, so one
command rebuilds the pipeline. The base sees single panels, mosaics of unrelated panels told clause
by clause, and sets whose panels share what the summary tells and nothing else: it can draw panels
and obey clauses, and does not know that panels belong together.

What makes words matter, against a study in which they did not: text encoders that can read before
the base begins; timesteps near noise, where colours cannot be read off the noisy picture; errors
that count more where the telling things are; and everything named in most captions.
"""

from __future__ import annotations

import logging
import random
from copy import deepcopy
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from iclora.miniature.flux_folder import save_flux
from iclora.miniature.world import VALUES
from iclora.store import atomic_path
from recipes.command import read_arguments
from recipes.flux_muon import Muon
from recipes.flux_parts import assemble, build_transformer, pack, position_ids
from recipes.flux_pool import PicturePool, attributes_at, open_pool
from recipes.flux_text import TextEncoders, train_text
from recipes.flux_words import (
    CONTEXT,
    PANELS,
    Lesson,
    mosaic_lesson,
    set_lesson,
    shared_names,
    single_lesson,
)
from recipes.loop import Plateau, train
from recipes.vae import (
    DECODER_STEPS,
    JOINT_STEPS,
    TRAINING_SIZE,
    latents_of,
    train_decoder,
    train_jointly,
)

log = logging.getLogger(__name__)

STEPS: Final = 3300
SINGLES: Final = 64
MOSAICS: Final = 32
"""Samples a step; steps alternate between singles and three-panel canvases."""

_PEAK: Final = 4e-3
_FALL: Final = 0.25
_OTHERS_SHARE: Final = 0.5
_AVERAGE_DECAY: Final = 0.999
_UNTOLD: Final = 0.1
"""The share of captions left out, so that true classifier-free guidance works."""

_SHORT: Final = 16
"""Text tokens of a single; every fourth batch is padded as in the pipeline."""

_TELLING_WEIGHT: Final = 3.0
_NOISY: Final = 0.7
_NOISY_SHIFT: Final = 1.2


class TrainingPictures(NamedTuple):
    """What batches are drawn from."""

    tokens: np.ndarray
    """float16 [n, 16, C]: packed latents."""

    weights: np.ndarray
    """float32 [n, 16]: how much an error counts."""

    attributes: np.ndarray
    """uint8 [n, 7]."""


class RectifiedFlowModel(nn.Module):
    """The transformer that is trained and its running average, which is used."""

    def __init__(self) -> None:
        super().__init__()
        self.live = build_transformer()
        self.average = deepcopy(self.live).requires_grad_(requires_grad=False)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Moves the average a little towards the live weights."""
        share = 1 - min(_AVERAGE_DECAY, (1 + step) / (10 + step))
        for mean, value in zip(self.average.parameters(), self.live.parameters(), strict=True):
            mean.lerp_(value, share)


class PictureBatch(NamedTuple):
    """Panels and the captions that tell of them."""

    rows: np.ndarray
    """[B, P]: places in the gallery, panel by panel."""

    captions: list[str]
    length: int
    """Text tokens."""


def hang(pool: PicturePool, vae: AutoencoderKL, folder: Path) -> TrainingPictures:
    """Encodes a pool once; later calls open what is there."""
    path = folder / "tokens.npy"
    if not path.exists():
        first = pack(latents_of(vae, pool.pictures[:1]))
        shape = (len(pool.pictures), *first.shape[1:])
        with atomic_path(path) as scratch:
            kept = open_memmap(scratch, mode="w+", dtype=np.float16, shape=shape)
            for start in range(0, len(kept), 500):
                kept[start : start + 500] = pack(
                    latents_of(vae, pool.pictures[start : start + 500])
                )
            kept.flush()
    telling = torch.from_numpy(np.asarray(pool.telling)).float()[:, None] / 255
    cells = nn.functional.avg_pool2d(telling, 2).flatten(1)
    weights = 1 + _TELLING_WEIGHT * cells
    tokens = open_memmap(path, mode="r")
    return TrainingPictures(tokens, (weights / weights.mean()).numpy(), np.asarray(pool.attributes))


def train_base(
    folder: Path, schedule: Plateau, gallery: TrainingPictures, encoders: TextEncoders
) -> RectifiedFlowModel:
    """Trains the base, or goes on training it.

    Args:
        folder: Holds the checkpoint.
        schedule: Length and rate.
        gallery: Panels to learn from.
        encoders: Frozen.
    """
    torch.manual_seed(0)
    base = RectifiedFlowModel()

    def loss_of(step: int) -> Tensor:
        base.follow(step)
        return base_loss(base.live, encoders, gallery, draw_batch(gallery, step))

    train(base, loss_of, schedule, folder, _optimizer(base.live))
    return base


def base_loss(
    model: FluxTransformer2DModel,
    encoders: TextEncoders,
    gallery: TrainingPictures,
    batch: PictureBatch,
) -> Tensor:
    """The weighted squared error of the velocity (rectified flow, Liu et al. 2022)."""
    size, panels = batch.rows.shape
    clean = torch.from_numpy(gallery.tokens[batch.rows].astype(np.float32)).flatten(1, 2)
    weights = torch.from_numpy(gallery.weights[batch.rows]).flatten(1)
    noise = torch.randn_like(clean)
    shift = _NOISY_SHIFT * (torch.rand(size) < _NOISY)
    time = torch.sigmoid(torch.randn(size) + shift)
    with torch.no_grad():
        text, pooled = encoders.read(batch.captions, batch.length)
    side = 4
    velocity = model(
        hidden_states=torch.lerp(clean, noise, time[:, None, None]),
        timestep=time,
        guidance=1 + 4 * torch.rand(size),
        pooled_projections=pooled,
        encoder_hidden_states=text,
        txt_ids=torch.zeros(text.shape[1], 3),
        img_ids=position_ids(panels * side, side),
        return_dict=False,
    )[0]
    return ((velocity - (noise - clean)).square().mean(2) * weights).mean()


def draw_batch(gallery: TrainingPictures, step: int) -> PictureBatch:
    """The batch of a step: singles and canvases take turns."""
    rng = random.Random(f"base {step}")  # noqa: S311 - lessons, not secrets
    if step % 2 == 0:
        drawn = [_single(gallery, rng) for _ in range(SINGLES)]
    else:
        kinds = [rng.choice((_mosaic, _set)) for _ in range(MOSAICS)]
        drawn = [kind(gallery, rng) for kind in kinds]
    captions = ["" if rng.random() < _UNTOLD else lesson.caption for _, lesson in drawn]
    rows = np.array([places for places, _ in drawn])
    return PictureBatch(rows, captions, _SHORT if step % 2 == 0 and step % 8 else CONTEXT)


def _single(gallery: TrainingPictures, rng: random.Random) -> tuple[list[int], Lesson]:
    row = rng.randrange(len(gallery.tokens))
    return [row], single_lesson(attributes_at(gallery.attributes[row]), rng)


def _mosaic(gallery: TrainingPictures, rng: random.Random) -> tuple[list[int], Lesson]:
    rows = [rng.randrange(len(gallery.tokens)) for _ in range(PANELS)]
    return rows, mosaic_lesson([attributes_at(gallery.attributes[row]) for row in rows], rng)


def _set(gallery: TrainingPictures, rng: random.Random) -> tuple[list[int], Lesson]:
    """Panels that share what the summary tells; all else is drawn anew for each."""
    summary = shared_names(rng)
    columns = [place for place, name in enumerate(VALUES) if name in summary]
    first = gallery.attributes[rng.randrange(len(gallery.tokens)), columns]
    same = np.flatnonzero((gallery.attributes[:, columns] == first).all(axis=1))
    rows = [int(same[rng.randrange(len(same))]) for _ in range(PANELS)]
    panels = [attributes_at(gallery.attributes[row]) for row in rows]
    return rows, set_lesson(panels, summary, rng)


def _optimizer(model: FluxTransformer2DModel) -> Muon:
    """Muon for the matrices that tokens pass through, Adam for modulation, ends and gains."""
    named = list(model.named_parameters())
    inner = [
        parameter
        for name, parameter in named
        if "blocks." in name and ".norm" not in name and parameter.ndim > 1
    ]
    chosen = {id(parameter) for parameter in inner}
    others = [parameter for _, parameter in named if id(parameter) not in chosen]
    optimizer = Muon(inner, others, rate=0.0, decay=0.01)
    optimizer.param_groups[1]["share"] = _OTHERS_SHARE
    return optimizer


def main() -> None:
    """The command."""
    order = read_arguments("Trains the miniature FLUX.", steps=STEPS)
    pool = open_pool(order.folder / "training", TRAINING_SIZE)
    vae = train_jointly(order.folder / "vae", JOINT_STEPS, pool)
    encoders = train_text(order.folder / "text")
    gallery = hang(pool, vae, order.folder)
    schedule = Plateau(steps=order.steps, peak=_PEAK, fall=_FALL)
    base = train_base(order.folder / "base", schedule, gallery, encoders)
    train_decoder(vae, order.folder / "vae", DECODER_STEPS, pool)
    save_flux(assemble(vae, encoders, base.average), order.folder / "model")


if __name__ == "__main__":
    main()
