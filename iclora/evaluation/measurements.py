"""Conversion of canvases to arrays: each canvas is opened once, measured, and released.

A canvas that cannot be opened, or that a scorer fails on, becomes NaN.

Legend: N prompts, K seeds, P panels, D embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from iclora.evaluation.metrics import Array
from iclora.evaluation.pixel_metrics import PixelScores, measure_canvas
from iclora.evaluation.scorers import Scorers
from schemas.layout import Layout

log = logging.getLogger(__name__)

Opener = Callable[[], Image.Image]
"""Function that opens one canvas."""

_SETS_PER_BATCH = 16


class CanvasMeasurements(NamedTuple):
    """Measurements of N x K canvases, the input of all scores."""

    clip: Array
    """CLIP embeddings, [N, K, P, D]."""

    others: dict[str, Array]
    """Rows of the other scorers by role, [N, K, P, ...]; [N, K] of a scorer that always failed."""

    pixels: PixelScores
    """Pixel metrics, [N, K, ...] each."""


def measure_canvases(
    canvases: Sequence[Sequence[Opener]], layout: Layout, scorers: Scorers
) -> CanvasMeasurements:
    """Measures canvases.

    Args:
        canvases: N rows of K openers.
        layout: layout of every canvas.
        scorers: models that measure the panels.
    """
    openers = [opener for row in canvases for opener in row]
    clip: list[Any] = []
    others: dict[str, list[Any]] = {role: [] for role in scorers.others}
    pixels: list[PixelScores | None] = []
    for start in range(0, len(openers), _SETS_PER_BATCH):
        opened = [_open(opener) for opener in openers[start : start + _SETS_PER_BATCH]]
        sets = [canvas and [canvas.crop(box) for box in layout.boxes] for canvas in opened]
        clip += _measure_sets(scorers.clip.name, scorers.clip.images, sets)
        for role, scorer in scorers.others.items():
            others[role] += _measure_sets(scorer.name, scorer.measure, sets)
        pixels += [canvas and measure_canvas(canvas, layout) for canvas in opened]

    def stacked(values: Sequence[Any]) -> Array:
        """Stacks arrays of one shape to [N, K, ...]; None becomes NaN."""
        shape = next((np.shape(value) for value in values if value is not None), ())
        missing = np.full(shape, np.nan)
        rows = np.stack([missing if value is None else value for value in values])
        return rows.reshape(len(canvases), -1, *shape)

    fields = PixelScores._fields
    return CanvasMeasurements(
        clip=stacked(clip),
        others={role: stacked(rows) for role, rows in others.items()},
        pixels=PixelScores(*(stacked([p and getattr(p, name) for p in pixels]) for name in fields)),
    )


def _open(opener: Opener) -> Image.Image | None:
    try:
        return opener().convert("RGB")
    except (OSError, SyntaxError) as error:  # Pillow's, by format
        log.warning("a canvas cannot be read and is missing from the figures: %s", error)
        return None


def _measure_sets(
    name: str,
    measure: Callable[[Sequence[Image.Image]], Any],
    sets: Sequence[Sequence[Image.Image] | None],
) -> list[Array | None]:
    """Measures each set to [P, ...]; None for a set that is None, and for all if a scorer fails."""
    readable = [panels for panels in sets if panels]
    if not readable:
        return [None] * len(sets)
    try:
        rows = np.asarray(measure([panel for panels in readable for panel in panels]), np.float64)
    except (RuntimeError, ValueError) as error:  # torch's and the preprocessor's
        log.warning("%s failed on %d sets: %s", name, len(readable), error)
        return [None] * len(sets)
    by_set = iter(rows.reshape(len(readable), -1, *rows.shape[1:]))
    return [next(by_set) if panels else None for panels in sets]
