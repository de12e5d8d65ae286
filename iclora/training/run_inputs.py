"""Inputs, identity, samples, and caches of a run, resolved before the transformer loads."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from iclora.dataset.reader import Dataset, open_dataset
from iclora.errors import BadConfig, BadInput
from iclora.models.families import Family, Grid, load_family
from iclora.models.locate import Located, is_demo, locate
from iclora.redact import redact_url
from iclora.store import Store
from iclora.training.checkpoint import versioned_fields
from iclora.training.dataloader import blank_path, latents_path
from iclora.training.latent_cache import EncoderKey, EncodingCache, fill_text
from iclora.training.samples import SampleView, TrainingItem, image_at, read_items
from schemas.adapter import RunIdentity
from schemas.base import digest_of
from schemas.config import Config
from schemas.store_paths import adapter_path
from schemas.training import DataParams, TrainParams

log = logging.getLogger(__name__)


class RunInputs(NamedTuple):
    """Resolved inputs of a run."""

    store: Store
    dataset: Dataset
    family: Family
    base: Located
    identity: RunIdentity
    cache: EncodingCache

    @property
    def config(self) -> Config:
        """Configuration of the run."""
        return self.identity.config

    @property
    def work_folder(self) -> Path:
        """Local folder of the running work."""
        return self.store.work_folder / "training" / f"{self.identity.name}-{self.identity.version}"

    @property
    def path(self) -> str:
        """Path of the finished adapter, relative to the store root."""
        return adapter_path(self.identity.name, version=self.identity.version)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the frozen models."""
        return torch.bfloat16 if self.config.train.precision == "bf16" else torch.float32


class TrainingData(NamedTuple):
    """Samples of a run."""

    train: dict[str, TrainingItem]
    val: list[TrainingItem]
    counts: dict[str, int]
    """Sample counts per split, fully masked samples, and truncated captions."""


def open_job(store: Store, dataset: str, config: Config, name: str) -> RunInputs:
    """Resolves the inputs of a run and computes its version.

    Raises:
        BadInput: the dataset is missing or damaged.
        BadConfig: the base does not match its family, or the dataset is a preview and
            ``data.allow_preview`` is off.
        MissingModel: the base is not on this machine.
    """
    opened = open_dataset(store, dataset)
    refuse_preview(opened, config.base.model, config.data)
    family = load_family(config.base.family)
    base = locate(config.base.model)
    family.check(base.folder, training_adapter=config.train.training_adapter)
    # Remove secrets from the captioner's URL: an adapter stores the configuration.
    captioner = config.caption.captioner
    captioner = captioner.model_copy(update={"url": redact_url(captioner.url)})
    caption = config.caption.model_copy(update={"captioner": captioner})
    identity = RunIdentity(
        name=name,
        version="unnamed",
        dataset=f"{opened.manifest.name}@{opened.manifest.version}",
        base=f"{config.base.model}@{base.revision}",
        config=config.model_copy(update={"caption": caption}),
    )
    identity = identity.model_copy(update={"version": digest_of(versioned_fields(identity))})
    encoder = EncoderKey(family.name, base.revision, config.train.precision)
    return RunInputs(store, opened, family, base, identity, EncodingCache(store, encoder))


def refuse_preview(dataset: Dataset, base: str, data: DataParams) -> None:
    """Rejects training a real base on a preview dataset.

    Raises:
        BadConfig: the dataset is a preview and ``data.allow_preview`` is off.
    """
    if dataset.manifest.preview and not is_demo(base) and not data.allow_preview:
        raise BadConfig(
            f"{dataset.url} is a preview: its captions or CLIP come from the miniature; build it "
            f"with another preset, or pass --set data.allow_preview=true"
        )


def read_training_data(
    dataset: Dataset, data: DataParams, train: TrainParams, step: int
) -> TrainingData:
    """Reads the training samples and the chosen validation samples, without pixels.

    Args:
        dataset: dataset to read.
        data: resolutions of the samples.
        train: panel weights and number of validation samples.
        step: side length of a token, in pixels.

    Raises:
        BadInput: every train sample is fully masked.
        BadConfig: the length of ``train.panel_weights`` differs from the number of panels.
    """
    weights = train.panel_weights

    def read(split: Any) -> Iterator[TrainingItem]:
        for item in read_items(dataset.samples(split), data.resolutions, step):
            if weights and len(weights) != item.panels:
                raise BadConfig(
                    f"train.panel_weights has {len(weights)} values, but {item.key} has "
                    f"{item.panels} panels"
                )
            yield item

    def is_learnable(item: TrainingItem) -> bool:
        return all(view.learn.any() for view in item.views.values())

    items = list(read("train"))
    learnable = {item.key: item for item in items if is_learnable(item)}
    if not learnable:
        raise BadInput(f"{dataset.url} has no train sample that is not masked all over")
    chosen = sorted(read("val"), key=lambda item: digest_of(item.key))
    val = [item for item in chosen if is_learnable(item)][: train.validate_samples]
    counts = {
        "samples_train": len(learnable),
        "samples_val": len(val),
        "samples_masked_all_over": len(items) - len(learnable),
    }
    return TrainingData(learnable, val, counts)


def tokens_of(data: TrainingData, text: int) -> dict[Grid, int]:
    """Computes the sequence length of every grid in the data, including ``text`` caption tokens."""
    items = [*data.train.values(), *data.val]
    grids = {view.grid for item in items for view in item.views.values()}
    return {grid: grid.count + text for grid in sorted(grids)}


def fill_caches(
    inputs: RunInputs, data: TrainingData, device: torch.device, more: Sequence[str] = ()
) -> int:
    """Encodes captions and canvases missing from the cache, loading one encoder at a time.

    Args:
        inputs: inputs of the run.
        data: samples of the run.
        device: device that runs the encoders.
        more: extra captions to encode.

    Returns:
        Number of captions that exceed the text encoder's context.
    """
    items = [*data.train.values(), *data.val]
    captions = ["", *more, *(item.caption for item in items)]

    cut = fill_text(
        inputs.cache,
        captions,
        inputs.family,
        lambda: inputs.family.load_text(inputs.base.folder, dtype=inputs.dtype, device=device),
    )
    for caption in cut:
        log.warning("the text encoder sees only the beginning of: %.60s…", caption)
    free_memory()
    _fill_latents(inputs, {item.key: item for item in items}, device)
    free_memory()
    return len(cut)


def _fill_latents(inputs: RunInputs, items: dict[str, TrainingItem], device: torch.device) -> None:
    """Encodes the canvases, and empty ones if the family needs them, that the cache lacks."""
    cache = inputs.cache
    missing: dict[str, dict[str, SampleView]] = {}  # sample key to cache path to view
    blanks: dict[str, SampleView] = {}
    for key, item in items.items():
        views = {latents_path(cache, item, view): view for view in item.views.values()}
        if views := {path: view for path, view in views.items() if not cache.has(path)}:
            missing[key] = views
        if inputs.family.needs_blank:
            blanks |= {blank_path(cache, view): view for view in item.views.values()}
    blanks = {path: view for path, view in blanks.items() if not cache.has(path)}
    if not missing and not blanks:
        return
    vae = inputs.family.load_vae(inputs.base.folder, dtype=inputs.dtype, device=device)
    for path, view in blanks.items():
        _encode(inputs, vae, torch.zeros(1, 3, view.fit.height, view.fit.width), path)
    for sample in inputs.dataset.samples():
        for path, view in missing.get(sample.record.key, {}).items():
            pixels = torch.from_numpy(image_at(sample.image, sample.record, view.fit))[None]
            _encode(inputs, vae, pixels, path)
    log.info("encoded %d canvases", len(missing))


def _encode(inputs: RunInputs, vae: Any, pixels: torch.Tensor, path: str) -> None:
    """Encodes one canvas ``[1, 3, H, W]`` into the cache."""
    posterior = inputs.family.encode_images(vae, pixels)
    single = posterior._replace(mean=posterior.mean[0], deviation=posterior.deviation[0])
    inputs.cache.save_posterior(path, single, inputs.dtype)


def free_memory() -> None:
    """Collects garbage and empties the CUDA cache."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
