"""Sample metadata for training: captions, canvas sizes, and the panel of each token."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iclora.dataset.shard_writer import Sample
from iclora.errors import BadInput
from iclora.models.families import Grid
from iclora.training.sampler import CanvasFit, fit_canvas
from schemas.base import Box
from schemas.sample import SampleRecord

OUTSIDE = -1
"""Panel number of a token outside every panel."""


class SampleView(NamedTuple):
    """Sample at one resolution."""

    fit: CanvasFit
    grid: Grid
    panel_of: NDArray[np.int64]
    """``[N]``: 0-based panel of each token, or ``OUTSIDE``."""

    learn: NDArray[np.bool_]
    """``[N]``: false where a mask touches the token."""


class TrainingItem(NamedTuple):
    """Sample without its pixels."""

    key: str
    caption: str
    image_sha256: str
    panels: int
    views: Mapping[int, SampleView]
    """Views keyed by resolution."""


def read_items(
    samples: Iterable[Sample], resolutions: Sequence[int], step: int
) -> Iterator[TrainingItem]:
    """Yields one training item per sample without decoding its image.

    Args:
        samples: samples from the shards.
        resolutions: square roots of the target areas, in pixels.
        step: side length of a token, in pixels.
    """
    for sample in samples:
        record = sample.record
        boxes = [panel.box for panel in record.panels]
        size = (record.width, record.height)
        views: dict[int, SampleView] = {}
        for resolution in resolutions:
            fit = fit_canvas(size, boxes, resolution=resolution, step=step)
            views[resolution] = _view(fit, boxes, record.masks, step)
        yield TrainingItem(record.key, sample.text, record.image_sha256, len(boxes), views)


def _view(fit: CanvasFit, panels: Sequence[Box], masks: Sequence[Box], step: int) -> SampleView:
    grid = Grid(fit.height // step, fit.width // step)
    panel_of = np.full(grid, OUTSIDE, dtype=np.int64)  # [rows, columns]
    for number, box in enumerate(panels):
        x0, y0, x1, y1 = (edge // step for edge in fit.box(box))
        panel_of[y0:y1, x0:x1] = number
    learn = np.ones(grid, dtype=np.bool_)  # [rows, columns]
    for mask in masks:
        x0, y0, x1, y1 = fit.box(mask)
        learn[y0 // step : -(-y1 // step), x0 // step : -(-x1 // step)] = False
    return SampleView(fit, grid, panel_of.reshape(-1), learn.reshape(-1))


def image_at(image: bytes, record: SampleRecord, fit: CanvasFit) -> NDArray[np.float32]:
    """Decodes a canvas and resizes it for training: ``[3, H, W]`` in -1..1.

    Panels are resized separately, so no color bleeds across a seam.

    Raises:
        BadInput: the image size differs from its record.
    """
    with Image.open(io.BytesIO(image)) as opened:
        width, height = opened.size
        if (width, height) != (record.width, record.height):
            raise BadInput(
                f"{record.key} is {width}x{height} px, but its record says "
                f"{record.width}x{record.height}; run `iclora verify` on the dataset"
            )
        canvas = opened.convert("RGB")
    resized = Image.new("RGB", (fit.width, fit.height))
    for (top, to_top), (bottom, to_bottom) in pairwise(fit.rows):
        for (left, to_left), (right, to_right) in pairwise(fit.columns):
            size = (to_right - to_left, to_bottom - to_top)
            if min(size) > 0:
                part = canvas.crop((left, top, right, bottom))
                resized.paste(part.resize(size, Image.Resampling.LANCZOS), (to_left, to_top))
    pixels = np.asarray(resized, dtype=np.float32) / 127.5 - 1.0  # [H, W, 3]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
