"""Measures the miniature CLIP: ``python -m recipes.clip_eval OUT``.

On frames of held-out films, decoded from their files; ``OUT/model`` is what is measured.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from iclora.miniature.captions import panel_caption
from iclora.miniature.world import seeded
from iclora.models.view import VIEW
from recipes.command import read_arguments
from recipes.heldout import HeldOut, held_out_frames
from schemas.base import Schema

log = logging.getLogger(__name__)

FILMS = 16
AMONG = 64
_DRAWS = 50

Rows = NDArray[np.float32]


class ClipScores(Schema):
    """What the CLIP of the family can tell."""

    frames: int
    scene_auc: float
    """How often two frames of a scene are more alike than two of different scenes."""

    retrieval: float
    """Captions that find their frame among 64 with different captions."""

    copies: tuple[float, float, float]
    """Cosine of near copies: 5th percentile, median, 95th."""

    same_scene: tuple[float, float, float]
    """Of different shots of a scene."""

    neighbours: tuple[float, float, float]
    """Of frames from neighbouring scenes of a film."""

    cross_scene: tuple[float, float, float]
    """Of frames from any two scenes."""


def measure_clip(model_folder: Path, frames: list[HeldOut], *, among: int = AMONG) -> ClipScores:
    """Measures an open_clip folder on frames of films.

    Args:
        model_folder: Holds ``open_clip_config.json``.
        frames: Of several scenes and films.
        among: Out of how many frames a caption has to find its own.
    """
    name = f"local-dir:{model_folder}"
    loaded: tuple[Any, ...] = open_clip.create_model_and_transforms(name, image_resize_mode=VIEW)
    model, _, preprocess = loaded
    tokenize = open_clip.get_tokenizer(name)
    model.eval()
    with torch.inference_mode():
        pictures = _unit(model, torch.stack([preprocess(frame.picture) for frame in frames]))
        captions = [panel_caption(frame.attributes) for frame in frames]
        told = model.encode_text(tokenize(captions), normalize=True).numpy()
    cosine, same, copy, near = _relations(pictures, frames)
    return ClipScores(
        frames=len(frames),
        scene_auc=area_under_curve(cosine[same & ~copy], cosine[~same]),
        retrieval=_retrieval(pictures, told, captions, among),
        copies=_spread(cosine[copy]),
        same_scene=_spread(cosine[same & ~copy]),
        neighbours=_spread(cosine[near]),
        cross_scene=_spread(cosine[~same]),
    )


def area_under_curve(positives: NDArray[Any], negatives: NDArray[Any]) -> float:
    """The chance that a positive is above a negative, ties counted half."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left")
    not_above = np.searchsorted(ordered, positives, "right")
    return float((below + not_above).mean() / 2 / len(ordered))


def _unit(model: Any, pixels: torch.Tensor) -> Rows:
    parts = [model.encode_image(part, normalize=True) for part in pixels.split(64)]
    return torch.cat(parts).numpy()


def _relations(
    pictures: Rows, frames: list[HeldOut]
) -> tuple[Rows, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """For every pair of frames: cosine, same scene, near copies, neighbouring scenes."""
    one, other = np.triu_indices(len(frames), 1)
    film, scene, shot, source = (
        np.array([frame[index] for frame in frames]) for index in (2, 3, 4, 5)
    )
    together = film[one] == film[other]
    same = together & (scene[one] == scene[other])
    copy = same & ((source[one] == shot[other]) | (source[other] == shot[one]))
    near = together & (np.abs(scene[one] - scene[other]) == 1)
    return (pictures[one] * pictures[other]).sum(-1), same, copy, near


def _retrieval(pictures: Rows, told: Rows, captions: list[str], among: int) -> float:
    rng = seeded("retrieval", 0)
    first = {caption: index for index, caption in reversed(list(enumerate(captions)))}
    distinct = sorted(first.values())
    hits = 0
    for _ in range(_DRAWS):
        drawn = rng.sample(distinct, among)
        found = (told[drawn] @ pictures[drawn].T).argmax(axis=1)
        hits += int((found == np.arange(among)).sum())
    return hits / (_DRAWS * among)


def _spread(values: NDArray[Any]) -> tuple[float, float, float]:
    low, middle, high = (round(float(value), 3) for value in np.percentile(values, (5, 50, 95)))
    return low, middle, high


def main() -> None:
    """The command."""
    order = read_arguments("Measures the miniature CLIP.", steps=0)
    frames = held_out_frames(order.folder / "films", FILMS)
    log.info("%s", measure_clip(order.folder / "model", frames).to_text())


if __name__ == "__main__":
    main()
