"""A small dataset made from captioned canvases: a real build that needs no model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from iclora.build import build_dataset
from iclora.presets import load_config
from iclora.store import Store
from schemas.dataset import DatasetRef

CAPTION = (
    "[MOVIE-SHOTS] a day by the sea with <Ann>, [SCENE-1] <Ann> wakes up early, "
    "[SCENE-2] <Ann> walks to the beach, [SCENE-3] <Ann> swims far out."
)


@pytest.fixture
def published(store: Store, tmp_path: Path) -> tuple[Store, DatasetRef]:
    """A store with the dataset ``films``."""
    folder = tmp_path / "sets"
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(3):
        canvas = Image.new("RGB", (192, 576))
        for panel in range(3):
            grain = Image.fromarray(chance.integers(0, 256, (24, 24), "uint8")).resize((192, 192))
            tinted = ImageOps.colorize(grain, "black", ("red", "lime", "blue")[panel])
            ImageDraw.Draw(tinted).ellipse((40, 40, 150, 150), fill=(80 * panel, 70 * number, 120))
            canvas.paste(tinted, (0, 192 * panel))
        canvas.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(CAPTION, encoding="utf-8")
    config = load_config(
        "miniature", {"filter.max_set_similarity": 1.0, "filter.quality.min_sharpness": 0.0}
    )
    return store, build_dataset(store, [str(folder)], config, "films")
