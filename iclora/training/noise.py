"""Timesteps, noise and everything else that a step draws at random.

Every draw comes from a generator seeded by (seed, step, key, turn) on the CPU, so it is the same on
every device and for every number of processes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from iclora.models.families import Posterior
from iclora.training.sampler import BatchSlot, seed_of
from schemas.training import NoiseParams

# N tokens, C token values


class NoiseDraw(NamedTuple):
    """What is drawn for one sample of one step."""

    t: float
    """Timestep in 0 (data) .. 1 (noise)."""

    drop_caption: bool
    given: tuple[int, ...]
    """Panels that are given clean; empty for drawing the whole set."""

    latent: Tensor
    """``[N, C]``: a draw from the posterior."""

    noise: Tensor
    """``[N, C]``."""


class NoiseSchedule(NamedTuple):
    """Settings of the draws."""

    noise: NoiseParams
    caption_dropout: float
    conditional: float


def draw_noise(
    draw: BatchSlot,
    step: int,
    posterior: Posterior,
    panels: int,
    *,
    seed: int,
    schedule: NoiseSchedule,
) -> NoiseDraw:
    """Draws for one sample; a pure function of its arguments.

    Args:
        draw: the sample's place in the batch.
        step: counted from 0.
        posterior: of its canvas, ``[N, C]``.
        panels: on its canvas.
        seed: of the run.
        schedule: distributions.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, step, draw.key, draw.repeat))
    scalars = torch.rand(3, generator=generator).tolist()
    t = draw_timestep(schedule.noise, posterior.mean.shape[0], generator)
    order = torch.randperm(panels, generator=generator).tolist()
    count = 1 + int(scalars[2] * (panels - 1))
    shape = posterior.mean.shape
    latent = posterior.mean + posterior.deviation * torch.randn(shape, generator=generator)
    return NoiseDraw(
        t=t,
        drop_caption=scalars[0] < schedule.caption_dropout,
        given=tuple(sorted(order[:count])) if scalars[1] < schedule.conditional else (),
        latent=latent,
        noise=torch.randn(shape, generator=generator),
    )


def draw_timestep(params: NoiseParams, tokens: int, generator: torch.Generator) -> float:
    """One timestep in 0..1.

    ``sigmoid`` is the logit-normal(0, 1) of Esser et al. 2024 (arXiv 2403.03206) and AI-Toolkit's
    default; ``shift`` pushes uniform ones by FLUX.1's resolution rule or by the given factor.
    """
    if params.sampler == "sigmoid":
        return float(torch.sigmoid(torch.randn((), generator=generator)))
    t = float(torch.rand((), generator=generator))
    return shifted(t, params.shift or flux_shift(tokens)) if params.sampler == "shift" else t


def shifted(t: float, factor: float) -> float:
    """A timestep pushed towards noise (Esser et al. 2024, arXiv 2403.03206, section 5.3.2)."""
    return factor * t / (1.0 + (factor - 1.0) * t)


def flux_shift(tokens: int) -> float:
    """FLUX.1's factor for a number of picture tokens: ``e^mu``.

    mu runs from 0.5 at 256 tokens to 1.15 at 4096 (black-forest-labs/flux, ``get_schedule``).
    """
    return math.exp(0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))


_BELL = [math.exp(-2.0 * ((i - 500) / 1000) ** 2) for i in range(1000)]
_BELL_FLOOR = min(_BELL)
_BELL_MEAN = sum(_BELL) / 1000 - _BELL_FLOOR


def weight_of(params: NoiseParams, t: float) -> float:
    """The weight of a timestep in the loss.

    ``bell`` is AI-Toolkit's ``linear_timesteps`` curve: exp(-2 (t - 1/2)^2), lowered so that its
    least value over a thousand steps is 0, and scaled to mean 1.
    """
    if params.weighting == "none":
        return 1.0
    return max(0.0, (math.exp(-2.0 * (t - 0.5) ** 2) - _BELL_FLOOR) / _BELL_MEAN)
