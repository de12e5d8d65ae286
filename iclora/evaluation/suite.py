"""What is asked of every model: the prompt suite, and the real sets to measure against.

Prompts come from the configuration, else from the val split, and never from the captions that were
trained on: an adapter that knows its prompts by heart would look obedient.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from iclora.captions.text import flatten, parse
from iclora.errors import BadInput
from iclora.evaluation.judges import Encoder
from iclora.evaluation.metrics import Array
from iclora.evaluation.scores import Gallery
from iclora.sampling.prompts import check_captions
from iclora.shards.read import Dataset
from iclora.shards.write import Sample
from iclora.store import Store, whole
from schemas.caption import Caption
from schemas.config import Config
from schemas.layout import Layout

MAX_REAL = 200
"""Real unseen sets that are measured; more do not change an interval that anyone would notice."""

_GALLERY_BATCH = 32


class RealSet(NamedTuple):
    """An unseen real set."""

    key: str
    caption: str
    image: bytes
    """The canvas file."""

    def open(self) -> Image.Image:
        """The canvas."""
        return open_canvas(self.image)


class Suite(NamedTuple):
    """What is drawn and what it is compared with."""

    prompts: tuple[str, ...]
    real: tuple[RealSet, ...]
    withheld: int
    """Prompts left out because they were trained on."""


def open_canvas(image: bytes) -> Image.Image:
    """The picture in a canvas file, RGB."""
    with Image.open(io.BytesIO(image)) as picture:
        return picture.convert("RGB")


def structured(caption: str, config: Config) -> Caption:
    """A prompt in its parts."""
    return parse(caption, config.layout.markers, config.caption.prefix)


def choose_suite(dataset: Dataset, config: Config) -> Suite:
    """The prompts and the real sets of an evaluation.

    Raises:
        BadInput: the dataset has another layout, no prompt is left, or a prompt breaks its format.
    """
    _check_layout(dataset, config.layout)
    trained = {flatten(sample.text) for sample in dataset.samples("train")}
    real = tuple(_unseen(dataset.samples("val"), trained))
    wanted = config.evaluate.prompts or tuple(found.caption for found in real)
    wanted = wanted or config.sample.prompts
    fresh = [text for text in dict.fromkeys(map(flatten, wanted)) if text not in trained]
    if not fresh:
        raise BadInput(
            f"{dataset.url} has no val captions that were not trained on: name prompts with "
            f"--set evaluate.prompts=[...]"
        )
    prompts = tuple(fresh[: config.evaluate.max_prompts])
    if config.evaluate.prompts or not real:
        check_captions(prompts, config.layout, config.caption)
    return Suite(prompts, real, withheld=len(set(map(flatten, wanted)) & trained))


def _unseen(samples: Iterable[Sample], trained: set[str]) -> Iterator[RealSet]:
    for sample, _ in zip(samples, range(MAX_REAL), strict=False):
        if flatten(sample.text) not in trained:
            yield RealSet(sample.record.key, flatten(sample.text), sample.image)


def _check_layout(dataset: Dataset, layout: Layout) -> None:
    theirs = dataset.manifest.config.layout
    if theirs.boxes != layout.boxes:
        raise BadInput(
            f"{dataset.url} has {theirs.name} sets of {theirs.panel_width}x{theirs.panel_height} "
            f"panels, but the adapter draws {layout.name} of {layout.panel_width}x"
            f"{layout.panel_height}: evaluate it on a dataset of its own layout"
        )


def load_gallery(store: Store, dataset: Dataset, layout: Layout, clip: Encoder) -> Gallery:
    """The training sets' embeddings; measured once per dataset version and encoder."""
    keys = tuple(sample.record.key for sample in dataset.samples("train"))
    name = f"{dataset.manifest.version}-{clip.label.rpartition('@')[2]}"
    file = store.work / "galleries" / f"{name}.npy"
    if file.is_file():
        panels: Array = np.load(file, allow_pickle=False)
        if len(panels) == len(keys):
            return Gallery(keys, panels)
    panels = _embed_all(dataset, layout, clip)
    _save(file, panels)
    return Gallery(keys, panels)


def _save(file: Path, panels: Array) -> None:
    with whole(file) as scratch, scratch.open("wb") as handle:
        np.save(handle, panels, allow_pickle=False)


def _embed_all(dataset: Dataset, layout: Layout, clip: Encoder) -> Array:
    rows: list[Array] = []
    batch: list[Image.Image] = []

    def flush() -> None:
        if batch:
            found = np.asarray(clip.images(batch), np.float64)
            rows.append(found.reshape(-1, layout.panels, found.shape[-1]))
            batch.clear()

    for sample in dataset.samples("train"):
        canvas = open_canvas(sample.image)
        batch.extend(canvas.crop(box) for box in layout.boxes)
        if len(batch) >= _GALLERY_BATCH * layout.panels:
            flush()
    flush()
    return np.concatenate(rows) if rows else np.zeros((0, layout.panels, 1))


def training_canvas(dataset: Dataset, keys: Iterable[str]) -> dict[str, Image.Image]:
    """The canvases of some training sets."""
    wanted = set(keys)
    return {
        sample.record.key: open_canvas(sample.image)
        for sample in dataset.samples("train")
        if sample.record.key in wanted
    }
