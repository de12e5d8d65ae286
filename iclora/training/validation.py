"""Validation loss on fixed samples, timesteps, and noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iclora.models.families import Family, GivenTokens
from iclora.training.dataloader import blank_path, latents_path, to_device
from iclora.training.latent_cache import EncodingCache, stack_text
from iclora.training.loss import MicroBatch, autocast, compute_losses, token_weights
from iclora.training.sampler import seed_of
from iclora.training.samples import TrainingItem
from schemas.config import Config


class Validator(NamedTuple):
    """Evaluator of an adapter on the val split."""

    items: Sequence[TrainingItem]
    cache: EncodingCache
    family: Family
    transformer: Any
    config: Config
    device: torch.device

    @torch.no_grad()
    def __call__(
        self, weights: Mapping[str, Tensor], live: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """Computes the losses with ``weights`` swapped into the ``live`` tensors.

        Returns:
            Mean losses: ``all``, ``t=…`` per timestep, and ``panel-…`` per 1-based panel. Empty
            without samples.
        """
        if not self.items:
            return {}
        before = {name: tensor.detach().clone() for name, tensor in live.items()}
        _copy(weights, live)
        try:
            return self._measure()
        finally:
            _copy(before, live)

    def _measure(self) -> dict[str, float]:
        sums: dict[str, list[float]] = defaultdict(list)
        for item in self.items:
            for t in self.config.train.validate_timesteps:
                batch = to_device(self._batch(item, t), self.device)
                with autocast(self.config.train.precision, self.device):
                    losses = compute_losses(
                        self.family,
                        self.transformer,
                        batch,
                        guidance=self.config.train.noise.guidance,
                    )
                loss = float(losses.samples[0])
                sums["all"].append(loss)
                sums[f"t={t:g}"].append(loss)
                counted = batch.weight[0] > 0
                for panel in range(item.panels):
                    chosen = losses.tokens[0][counted & (batch.panel_of[0] == panel)]
                    if chosen.numel():
                        sums[f"panel-{panel + 1}"].append(float(chosen.mean()))
        return {name: round(sum(values) / len(values), 6) for name, values in sums.items()}

    def _batch(self, item: TrainingItem, t: float) -> MicroBatch:
        view = item.views[max(item.views)]
        posterior = self.cache.posterior(latents_path(self.cache, item, view))
        generator = torch.Generator().manual_seed(seed_of("validation", item.key, t))
        panel_of = torch.from_numpy(view.panel_of)
        weight = token_weights(
            panel_of, torch.from_numpy(view.learn), (), self.config.train.panel_weights
        )
        given = None
        if self.family.needs_blank:
            blank = self.cache.posterior(blank_path(self.cache, view)).mean[None]
            given = GivenTokens(
                posterior.mean[None], torch.zeros_like(panel_of, dtype=torch.bool)[None], blank
            )
        return MicroBatch(
            latents=posterior.mean[None],
            noise=torch.randn(posterior.mean.shape, generator=generator)[None],
            t=torch.tensor([t]),
            text=stack_text([self.cache.load(self.cache.text_path(item.caption))]),
            grid=view.grid,
            panel_of=panel_of[None],
            weight=weight[None],
            given=given,
            timestep_weight=torch.ones(1),
        )


def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in target.items():
        tensor.data.copy_(source[name])
