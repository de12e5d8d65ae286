"""Trains the reader: ``python -m recipes.reader OUT``.

It must read pictures that a model drew, which are softer than the renderer's, so it sees many
softened ones.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from iclora.miniature.reader import ReaderNet, WorldReader, as_input, save_reader
from iclora.miniature.world import VALUES
from recipes.command import read_arguments
from recipes.heldout import HeldOut, held_out_frames
from recipes.loop import Cosine, train
from recipes.pool import ScenePool, disturbed, scene_pool

log = logging.getLogger(__name__)

STEPS: Final = 1000
SCENES: Final = 6000
SHOTS: Final = 3
BATCH: Final = 96
FILMS: Final = 16

_SMALLER = (1.0, 1.0, 0.75, 0.5)
"""To which sides pictures are shrunk before they are made large again."""


def train_reader(folder: Path, steps: int, pool: ScenePool) -> ReaderNet:
    """Trains, or goes on training, and writes ``folder/model``."""
    torch.manual_seed(0)
    net = ReaderNet()
    pixels = pool.pixels.reshape(-1, *pool.pixels.shape[2:])
    labels = torch.from_numpy(pool.labels.reshape(-1, pool.labels.shape[-1]))

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng(step)
        rows = rng.integers(len(pixels), size=BATCH)
        generator = torch.Generator().manual_seed(step)
        pictures = softened(as_input(pixels[rows]), float(rng.choice(_SMALLER)))
        scores = net(disturbed(pictures, generator))
        losses = [
            functional.cross_entropy(score, labels[rows, place], label_smoothing=0.05)
            for place, score in enumerate(scores)
        ]
        return torch.stack(losses).mean()

    train(net, loss_of, Cosine(steps=steps, peak=2e-3), folder)
    save_reader(net, folder / "model")
    return net


def softened(pictures: Tensor, share: float) -> Tensor:
    """Pictures [B, 3, H, W] shrunk to a share of their sides and made large again."""
    if share == 1:
        return pictures
    small = functional.interpolate(
        pictures, scale_factor=share, mode="bilinear", antialias=True, align_corners=False
    )
    side = pictures.shape[-1]
    return functional.interpolate(small, size=(side, side), mode="bicubic", align_corners=False)


def measure_reader(reader: WorldReader, frames: list[HeldOut]) -> dict[str, float]:
    """The share of frames on which each attribute is read right."""
    read = reader.read([frame.picture for frame in frames])
    right = {
        name: [
            row[name] == getattr(frame.attributes, name)
            for row, frame in zip(read, frames, strict=True)
        ]
        for name in VALUES
    }
    return {name: round(float(np.mean(hits)), 4) for name, hits in right.items()}


def main() -> None:
    """The command."""
    order = read_arguments("Trains the reader.", steps=STEPS)
    train_reader(order.folder, order.steps, scene_pool(order.folder, SCENES, SHOTS))
    frames = held_out_frames(order.folder / "films", FILMS)
    reader = WorldReader(order.folder / "model")
    log.info("%d held-out frames: %s", len(frames), measure_reader(reader, frames))


if __name__ == "__main__":
    main()
