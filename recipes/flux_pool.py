"""The pictures that the miniature FLUX learns from: drawn once, read as memory maps.

A pool is a folder of plain arrays: ``pictures.npy`` (uint8 [n, 64, 64, 3]), ``telling.npy`` (uint8
[n, 8, 8]: how much of a cell would look different if hair, hat, shirt and action were others) and
``attributes.npy`` (uint8 [n, 7], places in ``VALUES``). One combination of attributes in eight is
held out: no pool for training shows it.
"""

from __future__ import annotations

import logging
import random
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap

from iclora.miniature.draw import PANEL, render_panel
from iclora.miniature.world import (
    VALUES,
    Attributes,
    random_attributes,
    random_view,
    seeded,
)

log = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[np.uint8]]

HELD_OUT_SHARE: Final = 8
CELLS: Final = 8
"""Rows and columns of ``telling``: one cell for each latent of the autoencoder."""

_BATCH: Final = 500
_VISIBLE: Final = 24
"""A pixel differs when a channel moves by more than this (of 255)."""


class PicturePool(NamedTuple):
    """Pictures and what is on them, all of the same length."""

    pictures: Array
    telling: Array
    attributes: Array


def held_out(attributes: Attributes) -> bool:
    """Whether a combination is kept for measuring."""
    return zlib.crc32(bytes(attributes.indices())) % HELD_OUT_SHARE == 0


def attributes_at(row: Array) -> Attributes:
    """The attributes behind one row of ``attributes.npy``."""
    names = zip(VALUES.items(), row.tolist(), strict=True)
    return Attributes.model_validate({name: values[place] for (name, values), place in names})


def draw_attributes(rng: random.Random, *, measuring: bool) -> Attributes:
    """Random attributes from the held-out combinations or from all the others."""
    while True:
        attributes = random_attributes(rng)
        if held_out(attributes) == measuring:
            return attributes


def open_pool(folder: Path, size: int, *, measuring: bool = False) -> PicturePool:
    """Draws the missing pictures of a pool and opens it.

    Args:
        folder: Where the arrays lie; a folder left by an interrupted call is gone on with.
        size: How many pictures; must be the same for every call on a folder.
        measuring: Draws held-out combinations instead of the others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {
        "pictures": (size, PANEL, PANEL, 3),
        "telling": (size, CELLS, CELLS),
        "attributes": (size, len(VALUES)),
    }
    pool = PicturePool(*(_array(folder / f"{name}.npy", shape) for name, shape in shapes.items()))
    done = folder / "drawn"
    start = int(done.read_text()) if done.exists() else 0
    for first in range(start, size, _BATCH):
        for index in range(first, min(first + _BATCH, size)):
            _draw(pool, index, measuring=measuring)
        done.write_text(str(min(first + _BATCH, size)))
        log.info("drew %d of %d pictures", min(first + _BATCH, size), size)
    return pool


def _array(path: Path, shape: tuple[int, ...]) -> Array:
    if path.exists():
        found = open_memmap(path, mode="r+")
        assert found.shape == shape, f"{path.name} holds {found.shape}, not {shape}"
        return found
    return open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _draw(pool: PicturePool, index: int, *, measuring: bool) -> None:
    rng = seeded("measuring pool" if measuring else "training pool", index)
    attributes, view = draw_attributes(rng, measuring=measuring), random_view(rng)
    picture = np.asarray(render_panel(attributes, view), dtype=np.uint8)
    other = np.asarray(render_panel(_another(attributes), view), dtype=np.uint8)
    moved = np.abs(picture.astype(np.int16) - other.astype(np.int16)).max(axis=2) > _VISIBLE
    side = PANEL // CELLS
    share = moved.reshape(CELLS, side, CELLS, side).mean(axis=(1, 3))
    pool.pictures[index] = picture
    pool.telling[index] = np.round(share * 255).astype(np.uint8)
    pool.attributes[index] = attributes.indices()


def _another(attributes: Attributes) -> Attributes:
    """The same place, light and shot with every other value changed."""
    changed = {
        name: values[(values.index(getattr(attributes, name)) + 1) % len(values)]
        for name, values in VALUES.items()
        if name in {"hair", "hat", "shirt", "action"}
    }
    return attributes.model_copy(update=changed)
