"""Flow-matching loss on a canvas of panels.

x_t = (1 - t) x0 + t noise, and the model predicts noise - x0 (Liu et al. 2022, arXiv 2209.03003),
following FLUX.1 and AI-Toolkit. The float32 squared error is averaged over tokens, weighted per
panel, excluding masked tokens and given panels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iclora.models.families import Family, GivenTokens, Grid, Text

# B batch, N tokens, C token values, P panels


class MicroBatch(NamedTuple):
    """Collated samples of one shape."""

    latents: Tensor
    """``[B, N, C]`` float32: clean latents x0."""

    noise: Tensor
    """``[B, N, C]`` float32: standard normal noise."""

    t: Tensor
    """``[B]`` float32: timesteps from 0 (data) to 1 (noise)."""

    text: Text
    grid: Grid
    panel_of: Tensor
    """``[B, N]`` int64: panel of each token; -1 outside every panel."""

    weight: Tensor
    """``[B, N]`` float32: loss weight of each token."""

    given: GivenTokens | None
    timestep_weight: Tensor
    """``[B]`` float32: loss weight of each timestep."""

    dropped: int = 0
    """Number of captions replaced by the null embedding."""


class Losses(NamedTuple):
    """Losses of a micro-batch."""

    samples: Tensor
    """``[B]``: weighted loss of each sample, with gradient."""

    tokens: Tensor
    """``[B, N]``: mean squared error of each token, without gradient."""


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Returns a bf16 autocast context, or a null context for fp32; the adapter stays float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def add_noise(latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Interpolates linearly between data (t = 0) and noise (t = 1), ``[B, N, C]``; t is ``[B]``."""
    t = t[:, None, None]  # [B, 1, 1]
    return (1.0 - t) * latents + t * noise


def compute_losses(
    family: Family, transformer: Any, batch: MicroBatch, *, guidance: float
) -> Losses:
    """Predicts the velocity and computes the loss of each sample.

    A sample without weighted tokens has loss 0 and no gradient.
    """
    velocity = family.predict(
        transformer,
        add_noise(batch.latents, batch.noise, batch.t),
        batch.t,
        batch.text,
        grid=batch.grid,
        guidance=guidance,
        given=batch.given,
    )
    target = batch.noise - batch.latents  # [B, N, C]
    errors = (velocity.float() - target).square().mean(dim=2)  # [B, N]
    total = (errors * batch.weight).sum(dim=1)  # [B]
    samples = total / batch.weight.sum(dim=1).clamp_min(1e-12)
    return Losses(samples * batch.timestep_weight, errors.detach())


def token_weights(
    panel_of: Tensor, learn: Tensor, given: Sequence[int], panel_weights: Sequence[float]
) -> Tensor:
    """Computes the loss weight of each token, ``[N]``, from its panel and mask, both ``[N]``."""
    weight = learn.float()
    for panel in given:
        weight = weight * (panel_of != panel)
    for panel, factor in enumerate(panel_weights):
        weight = torch.where(panel_of == panel, weight * factor, weight)
    return weight


def panel_losses(batch: MicroBatch, errors: Tensor, panels: int) -> Tensor:
    """Sums the errors ``[B, N]`` of each panel and counts its weighted tokens, ``[2, P]``."""
    numbers = torch.arange(panels, device=errors.device)[:, None, None]  # [P, 1, 1]
    chosen = (batch.weight > 0) & (batch.panel_of == numbers)  # [P, B, N]
    sums = torch.where(chosen, errors, 0.0).sum(dim=(1, 2))  # [P]
    return torch.stack([sums, chosen.sum(dim=(1, 2))])
