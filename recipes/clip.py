"""Trains the miniature CLIP: ``python -m recipes.clip OUT``.

Two losses together. The usual contrast of pictures and captions; and a kernel: the cosine of two
pictures, or of a picture and a caption, is what their attributes share. The kernel gives every
pair of a batch a target, learns several times faster than the contrast alone, and fixes what the
sift needs: copies near 1, shots of one scene about 0.8 to 0.9, different scenes below 0.5.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from iclora.miniature.captions import panel_caption
from iclora.miniature.clip_folder import build_clip, save_clip
from iclora.miniature.reader import as_input
from iclora.miniature.script import NAMES
from iclora.miniature.sizes import FamilySize
from iclora.miniature.tokenizer import build_tokenizer
from iclora.miniature.world import IDENTITY, SETTING, STAGING, VALUES
from recipes.command import read_arguments
from recipes.loop import Cosine, train
from recipes.pool import ScenePool, attributes_of, disturbed, scene_pool

log = logging.getLogger(__name__)

STEPS: Final = 2400
SCENES: Final = 6000
SHOTS: Final = 3
BATCH: Final = 32
"""Scenes of a step; two shots of each are seen."""

_SCENE_SHARE, _STAGING_SHARE = 0.45, 0.10
"""Of the cosine: for being the same scene, for each of shot size and action. The rest is spread
over the attributes of the scene."""

_KERNEL_WEIGHT = 10.0
_CLOSE = 1e-4
"""What rounding may take from a target."""


def scene_kernel(labels: Tensor) -> Tensor:
    """The cosine that every pair should have, from labels [B, N]; 1 on the diagonal.

    A sum of kernels that ask for equality, so unit vectors with exactly these cosines exist.
    """
    same = (labels[:, None] == labels[None]).float()
    scene = [place for place, name in enumerate(VALUES) if name in IDENTITY | SETTING]
    staging = [place for place, name in enumerate(VALUES) if name in STAGING]
    each = (1 - _SCENE_SHARE - _STAGING_SHARE * len(staging)) / len(scene)
    return (
        _SCENE_SHARE * same[..., scene].prod(-1)
        + each * same[..., scene].sum(-1)
        + _STAGING_SHARE * same[..., staging].sum(-1)
    )


def train_clip(folder: Path, steps: int, size: FamilySize, pool: ScenePool) -> nn.Module:
    """Trains, or goes on training, and writes ``folder/model``.

    Args:
        folder: Where the checkpoint is kept.
        steps: Of the whole training.
        size: How large the model is.
        pool: Panels in scenes of at least two shots.
    """
    torch.manual_seed(0)
    model = build_clip(size)
    tokens = _token_rows(pool.labels, size)

    def loss_of(step: int) -> Tensor:
        return _loss(model, pool, tokens, step)

    train(model, loss_of, Cosine(steps=steps, peak=1e-3), folder)
    save_clip(model, folder / "model", size)
    return model


def _token_rows(labels: NDArray[np.int64], size: FamilySize) -> Tensor:
    """Token ids of every panel's caption [S, K, C]; every second caption names a role."""
    tokenizer = build_tokenizer("both", context=size.context)
    flat = labels.reshape(-1, labels.shape[-1])
    captions = [
        panel_caption(attributes_of(row), NAMES[n // 2 % len(NAMES)] if n % 2 else None)
        for n, row in enumerate(flat)
    ]
    rows = tokenizer(captions, padding="longest", return_tensors="pt").input_ids
    return rows.reshape(*labels.shape[:2], -1)


def _loss(model: Any, pool: ScenePool, tokens: Tensor, step: int) -> Tensor:
    rng = np.random.default_rng(step)
    scenes = rng.choice(len(pool.pixels), min(BATCH, len(pool.pixels)), replace=False)
    pairs = np.stack([rng.permutation(pool.pixels.shape[1])[:2] for _ in scenes])
    rows, columns = np.repeat(scenes, 2), pairs.reshape(-1)
    labels = torch.from_numpy(pool.labels[rows, columns])
    generator = torch.Generator().manual_seed(step)
    pictures = disturbed(as_input(pool.pixels[rows, columns]), generator)
    seen = functional.normalize(model.encode_image(pictures), dim=-1)
    told = functional.normalize(_encode_text(model, tokens[rows, columns]), dim=-1)
    target = scene_kernel(labels)
    kernel = _kernel_loss(seen @ seen.T, target) + _kernel_loss(told @ seen.T, target)
    return _KERNEL_WEIGHT * kernel + _contrast(seen, told, target, model.logit_scale.exp())


def _kernel_loss(cosine: Tensor, target: Tensor) -> Tensor:
    """Squared errors, pairs of one scene and of two weighing the same though they are rare."""
    error = (cosine - target).square()
    same = target > 1 - _STAGING_SHARE * len(STAGING) - _CLOSE
    return (error[same].mean() + error[~same].mean()) / 2


def _contrast(seen: Tensor, told: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """Both directions of the usual loss; equal captions are all right answers."""
    right = (target > 1 - _CLOSE).float()
    right = right / right.sum(-1, keepdim=True)
    logits = scale.clamp(max=100) * told @ seen.T
    across = functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)
    return across / 2


def _encode_text(model: Any, tokens: Tensor) -> Tensor:
    """The text tower on rows shorter than its context: what follows the end is never seen."""
    width = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:width]
    x = model.transformer(x, attn_mask=model.attn_mask[:width, :width])
    x = model.ln_final(x)
    pooled = x[torch.arange(len(x)), tokens.argmax(dim=-1)]
    return pooled @ model.text_projection


def main() -> None:
    """The command."""
    order = read_arguments("Trains the miniature CLIP.", steps=STEPS)
    pool = scene_pool(order.folder, SCENES, SHOTS)
    train_clip(order.folder, order.steps, FamilySize(), pool)


if __name__ == "__main__":
    main()
