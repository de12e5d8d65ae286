"""Micro-batches of a step, prefetched one step ahead of the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iclora.models.families import Family, GivenTokens, Grid, Posterior, Text
from iclora.training.distributed import DistEnv
from iclora.training.latent_cache import EncodingCache, stack_text
from iclora.training.loss import MicroBatch, token_weights
from iclora.training.noise import NoiseDraw, NoiseSchedule, draw_noise, weight_of
from iclora.training.sampler import BatchSampler, BatchSlot, resolution_of
from iclora.training.samples import SampleView, TrainingItem
from schemas.config import Config

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
        config: Config,
        dist: DistEnv,
    ) -> None:
        self._items = items
        self._config = config
        self._dist = dist
        self._family = family
        self._sampler = BatchSampler(list(items), config.train.seed)
        self._schedule = NoiseSchedule(
            config.train.noise, config.data.caption_dropout, config.train.conditional_probability
        )
        # Cached by arguments: computing a file's name takes longer than the lookup.
        self._posterior = lru_cache(_CACHE_SIZE)(self._read_posterior)
        self._text = lru_cache(_CACHE_SIZE)(self._read_text)
        self._empty = lru_cache(_CACHE_SIZE)(cache.posterior)
        self._cache = cache
        self._thread = ThreadPoolExecutor(1, "feed")
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
        train = self._config.train
        resolution = resolution_of(self._config.data.resolutions, train.seed, step)
        draws = self._dist.split(self._sampler.batch(step, train.batch))
        shapes: dict[Grid, list[Example]] = defaultdict(list)
        for draw in draws:
            example = self._example(draw, step, resolution)
            shapes[example.view.grid].append(example)
        batches: list[MicroBatch] = []
        for grid in sorted(shapes):
            size = self._sizes.get(grid) or train.micro_batch or len(shapes[grid])
            parts = range(0, len(shapes[grid]), size)
            batches += [self._collate(shapes[grid][part : part + size]) for part in parts]
        return batches

    def _example(self, draw: BatchSlot, step: int, resolution: int) -> Example:
        item = self._items[draw.key]
        view = item.views[resolution]
        posterior = self._posterior(draw.key, resolution)
        seed = self._config.train.seed
        chance = draw_noise(draw, step, posterior, item.panels, seed=seed, schedule=self._schedule)
        return Example(item, view, posterior, chance)

    def _collate(self, examples: Sequence[Example]) -> MicroBatch:
        grid = examples[0].view.grid
        chances = [example.draw for example in examples]
        panel_of = torch.stack([torch.from_numpy(e.view.panel_of) for e in examples])
        noise = self._config.train.noise
        return MicroBatch(
            latents=torch.stack([draw.latent for draw in chances]),
            noise=torch.stack([draw.noise for draw in chances]),
            t=torch.tensor([draw.t for draw in chances]),
            text=self._texts(examples),
            grid=grid,
            panel_of=panel_of,
            weight=torch.stack([self._weights(example) for example in examples]),
            given=self._given(examples, panel_of),
            timestep_weight=torch.tensor([weight_of(noise, draw.t) for draw in chances]),
            dropped=sum(draw.drop_caption for draw in chances),
        )

    def _texts(self, examples: Sequence[Example]) -> Text:
        captions = ["" if e.draw.drop_caption else e.item.caption for e in examples]
        return stack_text([self._text(text) for text in captions])

    def _weights(self, example: Example) -> Tensor:
        return token_weights(
            torch.from_numpy(example.view.panel_of),
            torch.from_numpy(example.view.learn),
            example.draw.given,
            self._config.train.panel_weights,
        )

    def _given(self, examples: Sequence[Example], panel_of: Tensor) -> GivenTokens | None:
        """Builds the conditioning from the posterior mean of given panels, as sampling does."""
        chosen = [torch.tensor(example.draw.given, dtype=torch.int64) for example in examples]
        if not self._family.needs_blank and not any(len(panels) for panels in chosen):
            return None
        mask = torch.stack(
            [torch.isin(row, panels) for row, panels in zip(panel_of, chosen, strict=True)]
        )
        clean = torch.stack([example.posterior.mean for example in examples])
        return GivenTokens(clean, mask, self._blank(examples[0].view))

    def _blank(self, view: SampleView) -> Tensor | None:
        if not self._family.needs_blank:
            return None
        return self._empty(blank_path(self._cache, view)).mean[None]

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
