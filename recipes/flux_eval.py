"""Measures the miniature FLUX: ``python -m recipes.flux_eval OUT [--model DIR]``.

Obedience is what the reader sees of what a caption names, on combinations of attributes that no
training pool shows; 95 % intervals by bootstrap over captions. Two sheets lie beside the figures:
look at them.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from PIL import Image

from iclora.miniature.captions import mosaic_caption, panel_caption
from iclora.miniature.draw import PANEL
from iclora.miniature.reader import WorldReader, load_reader
from iclora.miniature.world import VALUES, Attributes, seeded
from iclora.store import atomic_write
from recipes.flux_pool import draw_attributes, open_pool
from recipes.flux_words import PANELS
from recipes.vae import MEASURING_SIZE, measure_autoencoder
from schemas.base import Schema

log = logging.getLogger(__name__)

BATCH: Final = 16
_RESAMPLES: Final = 1000


class Share(Schema):
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


class Figures(Schema):
    """Everything measured of one model."""

    singles: dict[str, Share]
    """Of each attribute, and ``all``: single panels on which the named value is read."""

    clauses: dict[str, Share]
    """The same for the panels of mosaics, each by its own clause."""

    true_cfg: float
    steps: int
    captions: int
    decibels: float
    """Of the autoencoder's round trip."""


class Drawn(NamedTuple):
    """Captions, what each panel should show, and the pictures."""

    captions: list[str]
    wanted: list[tuple[Attributes, ...]]
    pictures: list[Image.Image]


def draw_singles(pipeline: FluxPipeline, count: int, *, steps: int, true_cfg: float) -> Drawn:
    """Single panels of held-out combinations, everything named."""
    rng = seeded("measured singles", 0)
    wanted = [(draw_attributes(rng, measuring=True),) for _ in range(count)]
    captions = [panel_caption(attributes) for (attributes,) in wanted]
    return Drawn(captions, wanted, draw(pipeline, captions, 1, steps=steps, true_cfg=true_cfg))


def draw_mosaics(pipeline: FluxPipeline, count: int, *, steps: int, true_cfg: float) -> Drawn:
    """Mosaics of unrelated panels of held-out combinations, everything named."""
    rng = seeded("measured mosaics", 0)
    wanted = [
        tuple(draw_attributes(rng, measuring=True) for _ in range(PANELS)) for _ in range(count)
    ]
    captions = [mosaic_caption(panels, [None] * PANELS) for panels in wanted]
    return Drawn(captions, wanted, draw(pipeline, captions, PANELS, steps=steps, true_cfg=true_cfg))


def draw(
    pipeline: FluxPipeline, captions: Sequence[str], panels: int, *, steps: int, true_cfg: float
) -> list[Image.Image]:
    """Canvases of ``panels`` panels one below the other; the noise depends on the place alone."""
    pictures: list[Image.Image] = []
    length = int(pipeline.tokenizer_2.model_max_length)
    for first in range(0, len(captions), BATCH):
        batch = list(captions[first : first + BATCH])
        options: dict[str, Any] = {"negative_prompt": [""] * len(batch)} if true_cfg > 1 else {}
        pictures += pipeline(
            batch,
            height=PANEL * panels,
            width=PANEL,
            num_inference_steps=steps,
            true_cfg_scale=true_cfg,
            max_sequence_length=length,
            generator=[torch.Generator().manual_seed(first + place) for place in range(len(batch))],
            **options,
        ).images  # pyright: ignore[reportAttributeAccessIssue] - a tuple only if asked
    return pictures


def panels_of(canvas: Image.Image) -> list[Image.Image]:
    """A canvas cut into its panels."""
    return [canvas.crop((0, top, PANEL, top + PANEL)) for top in range(0, canvas.height, PANEL)]


def obedience(drawn: Drawn, reader: WorldReader) -> dict[str, Share]:
    """The share of panels on which each attribute is read as its caption names it."""
    read = reader.read([panel for picture in drawn.pictures for panel in panels_of(picture)])
    wanted = [panel for panels in drawn.wanted for panel in panels]
    hits = np.array(
        [
            [found[name] == getattr(panel, name) for name in VALUES]
            for found, panel in zip(read, wanted, strict=True)
        ],
        dtype=np.float64,
    ).reshape(len(drawn.wanted), -1, len(VALUES))
    by_caption = hits.mean(axis=1)
    shares = {name: share_of(by_caption[:, place]) for place, name in enumerate(VALUES)}
    return shares | {"all": share_of(by_caption.mean(axis=1))}


def sheet(pictures: Sequence[Image.Image], columns: int, scale: int = 2) -> Image.Image:
    """Pictures of one size in a grid."""
    width, height = pictures[0].width * scale + 4, pictures[0].height * scale + 4
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * width, rows * height), "white")
    for place, picture in enumerate(pictures):
        large = picture.resize((width - 4, height - 4), Image.Resampling.NEAREST)
        grid.paste(large, (place % columns * width, place // columns * height))
    return grid


def share_of(rows: np.ndarray[Any, np.dtype[np.float64]]) -> Share:
    """The mean over captions and its interval."""
    rng = np.random.default_rng(0)
    means = rows[rng.integers(len(rows), size=(_RESAMPLES, len(rows)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    value, lowest, highest = (round(float(number), 4) for number in (rows.mean(), low, high))
    return Share(value=value, low=lowest, high=highest)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Measures the miniature FLUX.")
    parser.add_argument("out", type=Path, help="the recipe's folder; figures and sheets go there")
    parser.add_argument("--model", type=Path, help="a FluxPipeline folder; OUT/model if left out")
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--steps", type=int, default=16, help="of sampling")
    parser.add_argument("--true-cfg", type=float, default=2.5)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    pipeline: Any = FluxPipeline.from_pretrained(given.model or given.out / "model")
    pipeline.set_progress_bar_config(disable=True)
    way: dict[str, Any] = {"steps": given.steps, "true_cfg": given.true_cfg}
    singles = draw_singles(pipeline, given.captions, **way)
    mosaics = draw_mosaics(pipeline, given.captions, **way)
    sheet(singles.pictures[:48], 12).save(given.out / "singles.png")
    sheet(mosaics.pictures[:12], 12).save(given.out / "mosaics.png")
    pool = open_pool(given.out / "measuring", MEASURING_SIZE, measuring=True)
    figures = Figures(
        singles=obedience(singles, load_reader()),
        clauses=obedience(mosaics, load_reader()),
        captions=given.captions,
        decibels=round(measure_autoencoder(pipeline.vae, pool.pictures), 2),
        **way,
    )
    atomic_write(given.out / "figures.json", figures.to_text().encode())
    for kind in ("singles", "clauses"):
        shares: dict[str, Share] = getattr(figures, kind)
        log.info("%s: %s", kind, {name: share.value for name, share in shares.items()})
    log.info("autoencoder: %.2f dB", figures.decibels)


if __name__ == "__main__":
    main()
