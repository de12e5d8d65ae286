"""Euler sampling loop, shared by the sampler and by sample sheets during training."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from iclora.models.families import Text

Predict = Callable[[Tensor, Tensor, Text], Tensor]
"""Function from tokens ``[B, N, C]``, times ``[B]``, and text to the float32 velocity."""


class Prompt(NamedTuple):
    """Text of a batch and its guidance."""

    text: Text
    null: Text | None
    """Embedding of the empty text; None without classifier-free guidance."""

    true_cfg: float


def denoise(
    noise: Tensor,
    sigmas: list[float],
    prompt: Prompt,
    predict: Predict,
    *,
    before: Callable[[Tensor, int, float], Tensor] = lambda x, _step, _sigma: x,
) -> Tensor:
    """Integrates the predicted velocity with Euler steps.

    Args:
        noise: ``[B, N, C]`` float32.
        sigmas: noise levels, falling from 1 to 0.
        prompt: text; true classifier-free guidance if it has a null text.
        predict: the model.
        before: hook that changes the tokens before each step, by step number and noise level.

    Returns:
        The tokens ``[B, N, C]`` at the last noise level.
    """
    x = noise
    for step, (a, b) in enumerate(pairwise(sigmas)):
        x = before(x, step, a)
        t = torch.full((len(x),), a, device=x.device)
        v = predict(x, t, prompt.text)
        if prompt.null is not None:
            without = predict(x, t, prompt.null)
            v = without + prompt.true_cfg * (v - without)
        x = x + (b - a) * v
    return x
