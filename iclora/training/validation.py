"""Validation loss on fixed samples, timesteps, and noise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

from iclora.models.families import GivenTokens
from iclora.training.dataloader import blank_path, latents_path, to_device
from iclora.training.latent_cache import stack_text
from iclora.training.loss import MicroBatch, autocast, compute_losses, token_weights
from iclora.training.run_inputs import RunInputs
from iclora.training.sampler import seed_of
from iclora.training.samples import TrainingItem
from iclora.training.train_step import StepContext


@torch.no_grad()
def validation_losses(
    inputs: RunInputs, items: Sequence[TrainingItem], context: StepContext
) -> dict[str, float]:
    """Computes the losses of the adapter's moving average on the val split.

    Returns:
        Mean losses: ``all``, ``t=…`` per timestep, and ``panel-…`` per 1-based panel. Empty without
        samples.
    """
    train, device = inputs.config.train, context.dist.device
    sums: dict[str, list[float]] = defaultdict(list)
    with context.optimizer.ema_weights():
        for item in items:
            for t in train.validate_timesteps:
                batch = to_device(_batch(inputs, item, t), device)
                with autocast(train.precision, device):
                    losses = compute_losses(
                        context.family,
                        context.transformer,
                        batch,
                        guidance=train.noise.guidance,
                    )
                loss = float(losses.samples[0])
                sums["all"].append(loss)
                sums[f"t={t:g}"].append(loss)
                counted = batch.weight[0] > 0  # [N]
                for panel in range(item.panels):
                    chosen = losses.tokens[0][counted & (batch.panel_of[0] == panel)]
                    if chosen.numel():
                        sums[f"panel-{panel + 1}"].append(float(chosen.mean()))
    return {name: round(sum(values) / len(values), 6) for name, values in sums.items()}


def _batch(inputs: RunInputs, item: TrainingItem, t: float) -> MicroBatch:
    """Builds a batch of one sample at its largest resolution."""
    cache, view = inputs.cache, item.views[max(item.views)]
    clean = cache.posterior(latents_path(cache, item, view)).mean  # [N, C]
    generator = torch.Generator().manual_seed(seed_of("validation", item.key, t))
    panel_of = torch.from_numpy(view.panel_of)
    weight = token_weights(
        panel_of, torch.from_numpy(view.learn), (), inputs.config.train.panel_weights
    )
    given = None
    if inputs.family.needs_blank:
        blank = cache.posterior(blank_path(cache, view)).mean
        mask = torch.zeros_like(panel_of, dtype=torch.bool)
        given = GivenTokens(clean[None], mask[None], blank[None])
    return MicroBatch(
        latents=clean[None],
        noise=torch.randn(clean.shape, generator=generator)[None],
        t=torch.tensor([t]),
        text=stack_text([cache.load(cache.text_path(item.caption))]),
        grid=view.grid,
        panel_of=panel_of[None],
        weight=weight[None],
        given=given,
        timestep_weight=torch.ones(1),
    )
