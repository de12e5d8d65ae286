"""Micro-batches of a step, prefetched one step ahead of the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iclora.models.families import Family, GivenTokens, Grid, Posterior
from iclora.training.distributed import DistEnv
from iclora.training.latent_cache import EncodingCache, stack_text
from iclora.training.loss import MicroBatch, token_weights
from iclora.training.noise import NoiseDraw, draw_noise, weight_of
from iclora.training.sampler import BatchSampler, resolution_of
from iclora.training.samples import SampleView, TrainingItem
from schemas.training import DataParams, TrainParams

_CACHE_SIZE = 256
"""Maximum number of cached files of each kind kept in memory."""


class Example(NamedTuple):
    """Sample of a step with its random draws."""

    item: TrainingItem
    view: SampleView
    posterior: Posterior
    draw: NoiseDraw


class BatchLoader:
    """Loader of this process's share of every step.

    ``batch(step)`` is a pure function of the step; ``prefetch`` builds it ahead in a thread.
    """

    def __init__(
        self,
        items: Mapping[str, TrainingItem],
        cache: EncodingCache,
        family: Family,
        data: DataParams,
        train: TrainParams,
        dist: DistEnv,
    ) -> None:
        self._items = items
        self._data = data
        self._train = train
        self._dist = dist
        self._family = family
        self._sampler = BatchSampler(list(items), train.seed)
        # Cached by arguments: computing a file's name takes longer than the lookup.
        self._posterior = lru_cache(_CACHE_SIZE)(self._read_posterior)
        self._text = lru_cache(_CACHE_SIZE)(self._read_text)
        self._blank = lru_cache(_CACHE_SIZE)(cache.posterior)
        self._cache = cache
        self._thread = ThreadPoolExecutor(1, "dataloader")
        self._prefetched: dict[int, Future[list[MicroBatch]]] = {}
        self._sizes: dict[Grid, int] = {}

    def batch(self, step: int) -> list[MicroBatch]:
        """Returns the micro-batches of a 0-based step, on the CPU."""
        ready = self._prefetched.pop(step, None)
        return (ready or self._thread.submit(self._make, step)).result()

    def prefetch(self, step: int) -> None:
        """Starts building a step's micro-batches in the thread; repeated calls have no effect."""
        if step not in self._prefetched:
            self._prefetched = {step: self._thread.submit(self._make, step)}

    def set_micro_batch(self, grid: Grid, size: int) -> None:
        """Sets the maximum micro-batch of a shape, effective from the next ``batch``."""
        self._sizes[grid] = size
        self._prefetched = {}

    def close(self) -> None:
        """Stops the prefetch thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _make(self, step: int) -> list[MicroBatch]:
        train, dropout = self._train, self._data.caption_dropout
        resolution = resolution_of(self._data.resolutions, train.seed, step)
        shapes: dict[Grid, list[Example]] = defaultdict(list)
        for slot in self._dist.split(self._sampler.batch(step, train.batch)):
            item = self._items[slot.key]
            view = item.views[resolution]
            posterior = self._posterior(slot.key, resolution)
            draw = draw_noise(slot, step, posterior, item.panels, train, caption_dropout=dropout)
            shapes[view.grid].append(Example(item, view, posterior, draw))
        batches: list[MicroBatch] = []
        for grid in sorted(shapes):
            size = self._sizes.get(grid) or train.micro_batch or len(shapes[grid])
            starts = range(0, len(shapes[grid]), size)
            batches += [self._collate(shapes[grid][start : start + size]) for start in starts]
        return batches

    def _collate(self, examples: Sequence[Example]) -> MicroBatch:
        train = self._train
        draws = [example.draw for example in examples]
        rows = [torch.from_numpy(example.view.panel_of) for example in examples]
        panel_of = torch.stack(rows)  # [B, N]
        learn = [torch.from_numpy(example.view.learn) for example in examples]
        weights = [
            token_weights(panels, learned, draw.given, train.panel_weights)
            for panels, learned, draw in zip(panel_of, learn, draws, strict=True)
        ]
        texts = [
            self._text("" if example.draw.drop_caption else example.item.caption)
            for example in examples
        ]
        return MicroBatch(
            latents=torch.stack([draw.latent for draw in draws]),
            noise=torch.stack([draw.noise for draw in draws]),
            t=torch.tensor([draw.t for draw in draws]),
            text=stack_text(texts),
            grid=examples[0].view.grid,
            panel_of=panel_of,
            weight=torch.stack(weights),
            given=self._given(examples, panel_of),
            timestep_weight=torch.tensor([weight_of(train.noise, draw.t) for draw in draws]),
            dropped=sum(draw.drop_caption for draw in draws),
        )

    def _given(self, examples: Sequence[Example], panel_of: Tensor) -> GivenTokens | None:
        """Builds the conditioning from the posterior mean of given panels, as sampling does."""
        given = [torch.tensor(example.draw.given, dtype=torch.int64) for example in examples]
        if not self._family.needs_blank and not any(len(panels) for panels in given):
            return None
        rows = [torch.isin(row, panels) for row, panels in zip(panel_of, given, strict=True)]
        mask = torch.stack(rows)  # [B, N]
        clean = torch.stack([example.posterior.mean for example in examples])  # [B, N, C]
        blank = None
        if self._family.needs_blank:
            blank = self._blank(blank_path(self._cache, examples[0].view)).mean[None]
        return GivenTokens(clean, mask, blank)

    def _read_posterior(self, key: str, resolution: int) -> Posterior:
        item = self._items[key]
        return self._cache.posterior(latents_path(self._cache, item, item.views[resolution]))

    def _read_text(self, caption: str) -> dict[str, Tensor]:
        return self._cache.load(self._cache.text_path(caption))


def latents_path(cache: EncodingCache, item: TrainingItem, view: SampleView) -> str:
    """Returns the cache path of a sample's posterior."""
    size = (view.fit.width, view.fit.height)
    return cache.latents_path(item.image_sha256, size, [view.fit.columns, view.fit.rows])


def blank_path(cache: EncodingCache, view: SampleView) -> str:
    """Returns the cache path of an empty canvas's posterior."""
    return cache.latents_path("blank", (view.fit.width, view.fit.height), [])


def to_device(batch: MicroBatch, device: torch.device) -> MicroBatch:
    """Moves all tensors of a micro-batch to the device."""

    def moved(value: Any) -> Any:
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

    given = batch.given and GivenTokens(*(moved(part) for part in batch.given))
    text = {name: moved(tensor) for name, tensor in batch.text.items()}
    return MicroBatch(*(moved(value) for value in batch))._replace(given=given, text=text)
