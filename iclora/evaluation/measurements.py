"""Conversion of canvases to arrays: each canvas is opened once, measured, and released.

Only the panels' embeddings, thumbnails, and a few numbers are kept per canvas, so thousands of
large renders fit in little memory. A canvas that cannot be opened, or that a scorer fails on,
becomes NaN.

Legend: N prompts, K seeds, P panels, D embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from iclora.evaluation.metrics import Array
from iclora.evaluation.pixel_metrics import PixelScores, measure_canvas
from iclora.evaluation.scorers import AttributeReader, ImageEncoder, Scorers
from schemas.layout import Layout

log = logging.getLogger(__name__)

Opener = Callable[[], Image.Image]
"""Function that opens one canvas."""

Attributes = Mapping[str, str]

_SETS_PER_BATCH = 16


class CanvasMeasurements(NamedTuple):
    """Measurements of N x K canvases, the input of all scores."""

    clip: Array
    """CLIP embeddings, [N, K, P, D]."""

    dino: Array | None
    """DINOv2 embeddings, [N, K, P, D]; None without DINOv2."""

    read: list[list[tuple[Attributes, ...] | None]] | None
    """Attributes read from the panels, per prompt and seed; None where the reader failed."""

    thumbs: Array
    """Luma thumbnails, [N, K, P, h, w]."""

    inner: Array
    """Strongest line inside each panel, [N, K, P]."""

    corners: Array
    """Gradient magnitudes in the corner boxes, [N, K, 4, h, w]."""

    plain: dict[str, Array]
    """``seams``, ``clipping``, ``flatness``, ``sharpness``: [N, K] each."""


def measure_canvases(
    canvases: Sequence[Sequence[Opener]], layout: Layout, scorers: Scorers
) -> CanvasMeasurements:
    """Measures canvases.

    Args:
        canvases: N rows of K openers.
        layout: layout of every canvas.
        scorers: models that embed or read the panels.
    """
    count, seeds = len(canvases), len(canvases[0]) if canvases else 0
    openers = [opener for row in canvases for opener in row]
    rows = [row for batch in _batches(openers) for row in _measure_batch(batch, layout, scorers)]

    def stacked(values: Sequence[Any]) -> Array:
        return _stack(values).reshape(count, seeds, *_shape(values))

    pixels = [row.pixels for row in rows]
    plain = ("seams", "clipping", "flatness", "sharpness")
    read = [row.read for row in rows]
    return CanvasMeasurements(
        clip=stacked([row.clip for row in rows]),
        dino=stacked([row.dino for row in rows]) if scorers.dino else None,
        read=[read[n * seeds : (n + 1) * seeds] for n in range(count)] if scorers.reader else None,
        thumbs=stacked([p and p.thumbs for p in pixels]),
        inner=stacked([p and p.inner for p in pixels]),
        corners=stacked([p and p.corners for p in pixels]),
        plain={name: stacked([p and np.array(getattr(p, name)) for p in pixels]) for name in plain},
    )


class _Row(NamedTuple):
    """Measurements of one canvas; failed ones are None."""

    clip: Array | None
    dino: Array | None
    read: tuple[Attributes, ...] | None
    pixels: PixelScores | None


def _batches(openers: Sequence[Opener]) -> Iterator[Sequence[Opener]]:
    for start in range(0, len(openers), _SETS_PER_BATCH):
        yield openers[start : start + _SETS_PER_BATCH]


def _measure_batch(openers: Sequence[Opener], layout: Layout, scorers: Scorers) -> list[_Row]:
    opened = [_open(opener) for opener in openers]
    whole = [canvas for canvas in opened if canvas is not None]
    panels = [[canvas.crop(box) for box in layout.boxes] for canvas in whole]
    clip = _embed(scorers.clip, panels)
    dino = _embed(scorers.dino, panels)
    read = _read(scorers.reader, panels)
    pixels = [measure_canvas(canvas, layout) for canvas in whole]
    found = iter(map(_Row, clip, dino, read, pixels))
    missing = _Row(None, None, None, None)
    return [missing if canvas is None else next(found) for canvas in opened]


def _open(opener: Opener) -> Image.Image | None:
    try:
        return opener().convert("RGB")
    except (OSError, SyntaxError, UnidentifiedImageError) as error:  # Pillow's, by format
        log.warning("a canvas cannot be read and is missing from the figures: %s", error)
        return None


def _embed(
    encoder: ImageEncoder | None, sets: Sequence[Sequence[Image.Image]]
) -> list[Array | None]:
    """Embeds each set to [P, D]; None for all sets if the encoder fails or is absent."""
    if encoder is None or not sets:
        return [None] * len(sets)
    try:
        rows = np.asarray(encoder.images([p for panels in sets for p in panels]), np.float64)
    except (RuntimeError, ValueError) as error:  # torch's and the preprocessor's
        log.warning("%s failed on %d sets: %s", encoder.name, len(sets), error)
        return [None] * len(sets)
    return list(rows.reshape(len(sets), len(sets[0]), -1))


def _read(
    reader: AttributeReader | None, sets: Sequence[Sequence[Image.Image]]
) -> list[tuple[Attributes, ...] | None]:
    if reader is None or not sets:
        return [None] * len(sets)
    try:
        found = reader.read([p for panels in sets for p in panels])
    except (RuntimeError, ValueError) as error:
        log.warning("%s failed on %d sets: %s", reader.name, len(sets), error)
        return [None] * len(sets)
    size = len(sets[0])
    return [tuple(found[start : start + size]) for start in range(0, len(found), size)]


def _shape(values: Sequence[Any]) -> tuple[int, ...]:
    return next((value.shape for value in values if value is not None), ())


def _stack(values: Sequence[Any]) -> Array:
    """Stacks arrays of one shape; None becomes NaN."""
    empty = np.full(_shape(values), np.nan)
    return np.stack([empty if value is None else value for value in values])
