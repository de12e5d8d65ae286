"""Prompts for all models, and the real sets for comparison.

Training captions are never prompts: an adapter that memorized its prompts would score high
adherence.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterator, Sequence
from heapq import nsmallest
from itertools import islice
from typing import NamedTuple

import numpy as np
from PIL import Image

from iclora.captioning.caption_text import flatten
from iclora.dataset.reader import Dataset
from iclora.errors import BadInput
from iclora.evaluation.metrics import Array
from iclora.evaluation.scorers import ImageTextEncoder
from iclora.evaluation.scores import TrainingEmbeddings
from iclora.sampling.caption_input import check_captions
from iclora.sampling.given_panels import fit_panel, paste
from iclora.store import Store, atomic_path
from schemas.base import Box
from schemas.captioning import CaptionParams
from schemas.evaluation import EvaluateParams
from schemas.layout import Layout
from schemas.sample import Split

MAX_REAL = 200
"""Maximum number of unseen real sets to measure; more would not change intervals noticeably."""

_EMBED_BATCH = 32


class RealSet(NamedTuple):
    """Real set of the dataset, as an encoded file."""

    key: str
    caption: str
    image: bytes
    """Encoded canvas file."""

    boxes: tuple[Box, ...]
    """Boxes of the panels; published sets are often split unevenly."""

    layout: Layout

    def panels(self) -> list[Image.Image]:
        """Crops the panels and fits them to the layout's."""
        with Image.open(io.BytesIO(self.image)) as picture:
            canvas = picture.convert("RGB")
        return [fit_panel(canvas.crop(box), self.layout) for box in self.boxes]

    def open(self) -> Image.Image:
        """Opens the canvas in the layout of the renders."""
        canvas = Image.new("RGB", (self.layout.width, self.layout.height))
        return paste(canvas, dict(enumerate(self.panels())), self.layout)


class PromptSet(NamedTuple):
    """Prompts to render, with real sets for comparison."""

    prompts: tuple[str, ...]
    real: tuple[RealSet, ...]
    """Unseen sets (val), or training sets if there are none (see ``real_seen``)."""

    real_seen: bool
    """True if the real sets are training sets: valid as a reference, but not as a memorization
    test."""

    withheld: int
    """Number of prompts excluded because they were trained on."""


def choose_prompts(
    dataset: Dataset,
    trained_on: Dataset | None,
    layout: Layout,
    caption: CaptionParams,
    params: EvaluateParams,
    fallback: Sequence[str],
) -> PromptSet:
    """Chooses the prompts and the real sets of an evaluation.

    Args:
        dataset: source of the val sets.
        trained_on: training dataset; its captions are excluded, like the dataset's train captions.
        layout: layout of the renders.
        caption: caption format.
        params: the prompts, if any are named, and their maximum number.
        fallback: prompts if none are named and there are no val sets.

    Raises:
        BadInput: the dataset has another layout, no prompt is left, or a prompt breaks its format.
    """
    dataset_layout = dataset.manifest.config.layout
    if dataset_layout.name != layout.name:
        raise BadInput(
            f"{dataset.url} has {dataset_layout.name} sets, but the adapter draws {layout.name}: "
            f"evaluate it on a dataset of its own layout"
        )
    datasets = {data.url: data for data in (dataset, trained_on) if data}
    trained = {flatten(s.text) for data in datasets.values() for s in data.samples("train")}
    unseen = (item for item in real_sets(dataset, "val", layout) if item.caption not in trained)
    # A pseudo-random order that does not depend on the film or on other captions.
    val = tuple(
        nsmallest(MAX_REAL, unseen, key=lambda s: hashlib.sha256(s.caption.encode()).hexdigest())
    )
    wanted = params.prompts or tuple(item.caption for item in val) or fallback
    new = [text for text in dict.fromkeys(map(flatten, wanted)) if text not in trained]
    if not new:
        raise BadInput(
            f"{dataset.url} has no val captions that were not trained on: name prompts with "
            f"--set evaluate.prompts=[...]"
        )
    prompts = tuple(new[: params.max_prompts])
    if params.prompts or not val:
        check_captions(prompts, layout, caption)
    return PromptSet(
        prompts=prompts,
        real=val or tuple(islice(real_sets(dataset, "train", layout), MAX_REAL)),
        real_seen=not val,
        withheld=len(set(map(flatten, wanted)) & trained),
    )


def real_sets(dataset: Dataset, split: Split, layout: Layout) -> Iterator[RealSet]:
    """Yields the sets of a split that have as many panels as the layout."""
    for sample in dataset.samples(split):
        boxes = tuple(panel.box for panel in sample.record.panels)
        if len(boxes) == layout.panels:
            yield RealSet(sample.record.key, flatten(sample.text), sample.image, boxes, layout)


def load_training_embeddings(
    store: Store, dataset: Dataset | None, layout: Layout, clip: ImageTextEncoder
) -> TrainingEmbeddings:
    """Loads the training sets' embeddings, cached per dataset version and encoder."""
    if dataset is None:
        return TrainingEmbeddings((), np.zeros((0, 1, 1)))
    keys = tuple(real_set.key for real_set in real_sets(dataset, "train", layout))
    size = f"{layout.panel_width}x{layout.panel_height}"
    name = f"{dataset.manifest.version}-{clip.revision}-{size}.npy"
    file = store.work_folder / "galleries" / name
    if file.is_file():
        return TrainingEmbeddings(keys, np.load(file, allow_pickle=False))
    # Embed the sets in chunks that fit in memory.
    chunks: list[Array] = []
    sets = real_sets(dataset, "train", layout)
    while batch := list(islice(sets, _EMBED_BATCH)):
        panels = [panel for real_set in batch for panel in real_set.panels()]
        embedded = np.asarray(clip.images(panels), np.float64)
        chunks.append(embedded.reshape(len(batch), -1, embedded.shape[-1]))
    embeddings = np.concatenate(chunks) if chunks else np.zeros((0, 1, 1))
    with atomic_path(file) as scratch, scratch.open("wb") as handle:
        np.save(handle, embeddings, allow_pickle=False)
    return TrainingEmbeddings(keys, embeddings)


def training_canvases(
    dataset: Dataset | None, keys: Collection[str], layout: Layout
) -> dict[str, Image.Image]:
    """Loads the canvases of the given training sets."""
    sets = real_sets(dataset, "train", layout) if dataset else ()
    return {real_set.key: real_set.open() for real_set in sets if real_set.key in keys}
