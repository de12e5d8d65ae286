"""What the trainer keeps of a sample: its caption, its sizes, and which token belongs to what."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iclora.errors import BadInput
from iclora.models.families import Grid
from iclora.training.buckets import CanvasFit, fit_canvas
from schemas.base import Box
from schemas.sample import SampleRecord

log = logging.getLogger(__name__)

OUTSIDE = -1
"""Panel number of a token that belongs to no panel."""


class StoredSample(Protocol):
    """A sample as the shards give it."""

    @property
    def record(self) -> SampleRecord:
        """Its JSON."""
        ...

    @property
    def text(self) -> str:
        """Its caption."""
        ...

    @property
    def image(self) -> bytes:
        """Its canvas file."""
        ...


class SampleView(NamedTuple):
    """A sample at one resolution."""

    fit: CanvasFit
    grid: Grid
    panel_of: NDArray[np.int64]
    """``[N]``: the panel of each token, counted from 0, or ``OUTSIDE``."""

    learn: NDArray[np.bool_]
    """``[N]``: false where a mask touches the token."""


class TrainingItem(NamedTuple):
    """A sample without its picture."""

    key: str
    caption: str
    image_sha256: str
    panels: int
    views: Mapping[int, SampleView]
    """By resolution."""


def read_items(
    samples: Iterable[StoredSample], resolutions: Sequence[int], step: int
) -> Iterator[TrainingItem]:
    """Plans every sample once; pictures are not decoded.

    Args:
        samples: from the shards.
        resolutions: square roots of areas, in pixels.
        step: pixels on a token's side.
    """
    for sample in samples:
        record = sample.record
        boxes = [panel.box for panel in record.panels]
        size = (record.width, record.height)
        views = {
            resolution: _view(
                fit_canvas(size, boxes, resolution=resolution, step=step),
                boxes,
                record.masks,
                step,
            )
            for resolution in resolutions
        }
        yield TrainingItem(record.key, sample.text, record.image_sha256, len(boxes), views)


def _view(fit: CanvasFit, panels: Sequence[Box], masks: Sequence[Box], step: int) -> SampleView:
    grid = Grid(fit.height // step, fit.width // step)
    panel_of = np.full(grid, OUTSIDE, dtype=np.int64)
    for number, box in enumerate(panels):
        x0, y0, x1, y1 = (edge // step for edge in fit.box(box))
        panel_of[y0:y1, x0:x1] = number
    learn = np.ones(grid, dtype=np.bool_)
    for mask in masks:
        x0, y0, x1, y1 = fit.box(mask)
        learn[y0 // step : -(-y1 // step), x0 // step : -(-x1 // step)] = False
    return SampleView(fit, grid, panel_of.reshape(-1), learn.reshape(-1))


def picture_at(image: bytes, record: SampleRecord, fit: CanvasFit) -> NDArray[np.float32]:
    """A canvas at a size of training: ``[3, H, W]`` in -1..1.

    Panels are resized one by one, so no colour crosses a seam.

    Raises:
        BadInput: the picture has another size than its record says.
    """
    with Image.open(io.BytesIO(image)) as opened:
        if opened.size != (record.width, record.height):
            raise BadInput(
                f"{record.key} is {opened.size[0]}x{opened.size[1]} px, but its record says "
                f"{record.width}x{record.height}; run `iclora verify` on the dataset"
            )
        canvas = opened.convert("RGB")
    small = Image.new("RGB", (fit.width, fit.height))
    for (top, to_top), (bottom, to_bottom) in pairwise(fit.rows):
        for (left, to_left), (right, to_right) in pairwise(fit.columns):
            size = (to_right - to_left, to_bottom - to_top)
            if min(size) > 0:
                part = canvas.crop((left, top, right, bottom))
                small.paste(part.resize(size, Image.Resampling.LANCZOS), (to_left, to_top))
    pixels = np.asarray(small, dtype=np.float32) / 127.5 - 1.0
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
