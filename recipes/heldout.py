"""Frames of held-out films, read back from the video files: what every model is measured on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
from PIL import Image

from iclora.miniature.film import FilmTruth, read_truth, render_film
from iclora.miniature.script import Shot
from iclora.miniature.world import Attributes

FIRST_SEED = 900_000
"""Films of this seed and above are for measuring; demonstrations use small seeds."""


class HeldOut(NamedTuple):
    """One frame of a film file and what is on it."""

    picture: Image.Image
    """Without bars, RGB."""

    attributes: Attributes
    film: int
    scene: int
    shot: int
    copy_of: int
    """The shot of the same film that this one nearly repeats, or -1."""


def held_out_frames(folder: Path, films: int) -> list[HeldOut]:
    """The middle frame of every clean or repeated shot of ``films`` films, made if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    frames: list[HeldOut] = []
    for seed in range(FIRST_SEED, FIRST_SEED + films):
        path = folder / f"film-{seed}.mp4"
        if not path.exists():
            render_film(seed, path)
        frames += _frames(path, read_truth(path))
    return frames


def _frames(path: Path, truth: FilmTruth) -> Iterator[HeldOut]:
    wanted: dict[int, tuple[int, Shot]] = {
        shot.start + shot.frames // 2: (number, shot)
        for number, shot in enumerate(truth.film.shots)
        if shot.kind in ("scene", "duplicate")
    }
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            number, shot = wanted.get(index, (-1, None))
            if shot is None or shot.attributes is None:
                continue
            picture = frame.to_image().crop(truth.picture)
            yield HeldOut(
                picture, shot.attributes, truth.film.seed, shot.scene, number, shot.copy_of
            )
