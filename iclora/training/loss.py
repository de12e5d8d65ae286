"""Flow matching on a canvas of panels.

x_t = (1 - t) x0 + t noise; the model predicts noise - x0 (Liu et al. 2022, arXiv 2209.03003; the
convention of FLUX.1 and AI-Toolkit). The squared error is taken in float32 and averaged over the
tokens that count: not those under masks, not those of given panels, each panel by its weight.
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
    """Samples of one shape, ready for the model."""

    latents: Tensor
    """``[B, N, C]`` float32: x0."""

    noise: Tensor
    """``[B, N, C]`` float32."""

    t: Tensor
    """``[B]`` float32."""

    text: Text
    grid: Grid
    panel_of: Tensor
    """``[B, N]`` int64; -1 is outside every panel."""

    weight: Tensor
    """``[B, N]`` float32: of each token in the loss."""

    given: GivenTokens | None
    timestep_weight: Tensor
    """``[B]`` float32."""

    dropped: int = 0
    """Captions replaced by the null embedding."""


class Losses(NamedTuple):
    """The losses of a micro-batch."""

    samples: Tensor
    """``[B]``, with gradient."""

    tokens: Tensor
    """``[B, N]`` mean squared errors, without gradient."""


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Half precision around the model's forward pass; the adapter stays float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def add_noise(latents_BNC: Tensor, noise_BNC: Tensor, t_B: Tensor) -> Tensor:  # noqa: N803 - legend above
    """The point at time t on the straight line from data to noise."""
    t = t_B[:, None, None]
    return (1.0 - t) * latents_BNC + t * noise_BNC


def compute_losses(
    family: Family, transformer: Any, batch: MicroBatch, *, guidance: float
) -> Losses:
    """Runs the model and compares.

    A sample none of whose tokens counts has loss 0 and gives no gradient.
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
    target = batch.noise - batch.latents
    errors_bn = (velocity.float() - target).square().mean(dim=2)
    total = (errors_bn * batch.weight).sum(dim=1)
    samples = total / batch.weight.sum(dim=1).clamp_min(1e-12)
    return Losses(samples * batch.timestep_weight, errors_bn.detach())


def token_weights(
    panel_of_N: Tensor,  # noqa: N803 - legend above
    learn_N: Tensor,  # noqa: N803 - legend above
    given: Sequence[int],
    panel_weights: Sequence[float],
) -> Tensor:
    """``[N]``: what each token counts in the loss."""
    weight = learn_N.float()
    for panel in given:
        weight = weight * (panel_of_N != panel)
    for panel, factor in enumerate(panel_weights):
        weight = torch.where(panel_of_N == panel, weight * factor, weight)
    return weight


def panel_losses(batch: MicroBatch, errors_BN: Tensor, panels: int) -> Tensor:  # noqa: N803 - legend above
    """``[2, P]``: sums and counts over the tokens that count; their quotient is the mean."""
    numbers = torch.arange(panels, device=errors_BN.device)[:, None, None]
    chosen = (batch.weight > 0) & (batch.panel_of == numbers)
    sums = torch.where(chosen, errors_BN, 0.0).sum(dim=(1, 2))
    return torch.stack([sums, chosen.sum(dim=(1, 2))])
