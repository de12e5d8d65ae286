"""Panels to train on: drawn once, spoilt as film frames and model pictures are, kept in a file."""

from __future__ import annotations

import io
import logging
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from iclora.miniature.draw import PANEL, render_frame
from iclora.miniature.lettering import draw_logo
from iclora.miniature.script import HEIGHT, WIDTH
from iclora.miniature.world import VALUES, Attributes, View, chance, random_attributes, seeded
from iclora.store import atomic_path

log = logging.getLogger(__name__)

_SHRINKS = (Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.BICUBIC)
_LOGO = (206, 8, 246, 24)


class ScenePool(NamedTuple):
    """Panels in scenes: S scenes, K shots each, N attributes."""

    pixels: NDArray[np.uint8]
    """[S, K, 64, 64, 3]"""

    labels: NDArray[np.int64]
    """[S, K, N], as ``Attributes.indices``"""


def attributes_of(labels: NDArray[np.int64]) -> Attributes:
    """The attributes that a row of labels stands for."""
    pairs = zip(VALUES.items(), labels, strict=True)
    return Attributes.model_validate({name: values[index] for (name, values), index in pairs})


def scene_pool(folder: Path, scenes: int, shots: int) -> ScenePool:
    """Draws the pool, or reads it if it was drawn before.

    Args:
        folder: Where it is kept.
        scenes: Number of scenes.
        shots: Panels of each; they differ in view, and mostly in size and action.
    """
    path = folder / f"pool-{scenes}x{shots}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pool = _draw(scenes, shots)
        with atomic_path(path) as scratch, scratch.open("wb") as file:
            np.savez(file, pixels=pool.pixels, labels=pool.labels)
    with np.load(path) as kept:
        return ScenePool(kept["pixels"], kept["labels"])


def disturbed(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures [B, 3, H, W] a little brighter or darker and grainier, as footage differs."""
    shape = (len(pictures), 1, 1, 1)
    gain = 1 + 0.08 * torch.randn(shape, generator=generator)
    grain = 0.04 * torch.rand(shape, generator=generator)
    noise = torch.randn(pictures.shape, generator=generator)
    return (pictures * gain + grain * noise).clamp(-1, 1)


def training_panel(attributes: Attributes, view: View, rng: random.Random) -> Image.Image:
    """Draws one panel as it may come out of a film: cut, marked, softened, compressed."""
    frame = render_frame(attributes, view, width=WIDTH, height=HEIGHT, supersample=1)
    if chance(rng, 30):
        draw_logo(frame, _LOGO)
    if chance(rng, 25):
        frame = frame.filter(ImageFilter.BoxBlur(rng.choice((1, 2))))
    left = (WIDTH - HEIGHT) // 2 + (rng.randrange(-20, 21) if chance(rng, 30) else 0)
    square = frame.crop((left, 0, left + HEIGHT, HEIGHT))
    panel = square.resize((PANEL, PANEL), rng.choice(_SHRINKS))
    return _compressed(panel, rng.randrange(75, 96)) if chance(rng, 50) else panel


def _compressed(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _draw(scenes: int, shots: int) -> ScenePool:
    pixels = np.empty((scenes, shots, PANEL, PANEL, 3), np.uint8)
    labels = np.empty((scenes, shots, len(VALUES)), np.int64)
    for scene in range(scenes):
        for shot, (panel, attributes) in enumerate(_scene(scene, shots)):
            pixels[scene, shot] = np.asarray(panel)
            labels[scene, shot] = attributes.indices()
    log.info("drew %d panels", scenes * shots)
    return ScenePool(pixels, labels)


def _scene(number: int, shots: int) -> list[tuple[Image.Image, Attributes]]:
    rng = seeded("training scene", number)
    first = random_attributes(rng)
    mirrored, pan = chance(rng, 50), rng.randrange(-140, 141)
    drawn: list[tuple[Image.Image, Attributes]] = []
    for _ in range(shots):
        staging = random_attributes(rng)
        attributes = first.model_copy(update={"shot": staging.shot, "action": staging.action})
        view = View(
            mirrored=mirrored,
            pan=pan + rng.randrange(-80, 81),
            side=rng.randrange(-100, 101),
            beat=rng.randrange(64),
        )
        drawn.append((training_panel(attributes, view, rng), attributes))
    return drawn
