"""Random draws of a step: timesteps, noise, dropout, and conditioning.

Every draw comes from a CPU generator seeded by (seed, step, key, repeat), so results do not depend
on the device or the number of processes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from iclora.models.families import Posterior
from iclora.training.sampler import BatchSlot, seed_of
from schemas.training import NoiseParams, TrainParams

# N tokens, C token values


class NoiseDraw(NamedTuple):
    """Random draws for one sample of one step."""

    t: float
    """Timestep from 0 (data) to 1 (noise)."""

    drop_caption: bool
    given: tuple[int, ...]
    """Panels used as clean conditioning; empty to generate the whole set."""

    latent: Tensor
    """``[N, C]``: draw from the posterior."""

    noise: Tensor
    """``[N, C]``: standard normal noise."""


def draw_noise(
    slot: BatchSlot,
    step: int,
    posterior: Posterior,
    panels: int,
    train: TrainParams,
    *,
    caption_dropout: float,
) -> NoiseDraw:
    """Draws all random values for one sample, as a pure function of its arguments.

    Args:
        slot: slot of the sample in the batch.
        step: 0-based step.
        posterior: posterior of the canvas, ``[N, C]``.
        panels: number of panels on the canvas.
        train: seed, distribution of timesteps, and probability of given panels.
        caption_dropout: probability of a dropped caption.
    """
    generator = torch.Generator().manual_seed(seed_of(train.seed, step, slot.key, slot.repeat))
    scalars = torch.rand(3, generator=generator).tolist()
    t = draw_timestep(train.noise, posterior.mean.shape[0], generator)
    order = torch.randperm(panels, generator=generator).tolist()
    count = 1 + int(scalars[2] * (panels - 1))
    shape = posterior.mean.shape  # [N, C]
    latent = posterior.mean + posterior.deviation * torch.randn(shape, generator=generator)
    return NoiseDraw(
        t=t,
        drop_caption=scalars[0] < caption_dropout,
        given=tuple(sorted(order[:count])) if scalars[1] < train.conditional_probability else (),
        latent=latent,
        noise=torch.randn(shape, generator=generator),
    )


def draw_timestep(params: NoiseParams, tokens: int, generator: torch.Generator) -> float:
    """Draws one timestep in 0..1.

    ``sigmoid`` is the logit-normal(0, 1) of Esser et al. 2024 (arXiv 2403.03206) and AI-Toolkit's
    default. ``shift`` shifts uniform timesteps by FLUX.1's resolution rule or the given factor.
    """
    if params.sampler == "sigmoid":
        return float(torch.sigmoid(torch.randn((), generator=generator)))
    t = float(torch.rand((), generator=generator))
    return shifted(t, params.shift or flux_shift(tokens)) if params.sampler == "shift" else t


def shifted(t: float, factor: float) -> float:
    """Shifts a timestep toward noise (Esser et al. 2024, arXiv 2403.03206, section 5.3.2)."""
    return factor * t / (1.0 + (factor - 1.0) * t)


def flux_shift(tokens: int) -> float:
    """Computes FLUX.1's shift factor ``e^mu`` for a number of image tokens.

    mu is linear from 0.5 at 256 tokens to 1.15 at 4096 (black-forest-labs/flux, ``get_schedule``).
    """
    return math.exp(0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))


_BELL = [math.exp(-2.0 * ((i - 500) / 1000) ** 2) for i in range(1000)]
_BELL_FLOOR = min(_BELL)
_BELL_MEAN = sum(_BELL) / 1000 - _BELL_FLOOR


def weight_of(params: NoiseParams, t: float) -> float:
    """Computes the loss weight of a timestep.

    ``bell`` is AI-Toolkit's ``linear_timesteps`` curve exp(-2 (t - 1/2)^2), shifted to a minimum of
    0 over 1000 steps and scaled to a mean of 1.
    """
    if params.weighting == "none":
        return 1.0
    return max(0.0, (math.exp(-2.0 * (t - 0.5) ** 2) - _BELL_FLOOR) / _BELL_MEAN)
