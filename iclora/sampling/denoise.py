"""From noise to clean tokens: the one loop of sampling and of the sheets that training draws."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from iclora.models.families import Text

Predict = Callable[[Tensor, Tensor, Text], Tensor]
"""The float32 velocity of tokens ``[B, N, C]`` at times ``[B]`` under a text."""


class Prompt(NamedTuple):
    """The text of a batch, and how it guides."""

    text: Text
    null: Text | None
    """The empty text; None where nothing is guided by it."""

    true_cfg: float


def denoise(
    noise: Tensor,
    sigmas: list[float],
    prompt: Prompt,
    predict: Predict,
    *,
    before: Callable[[Tensor, int, float], Tensor] = lambda x, _step, _sigma: x,
) -> Tensor:
    """Takes Euler steps along the predicted velocity.

    Args:
        noise: ``[B, N, C]`` float32.
        sigmas: noise levels, falling from 1 to 0.
        prompt: with true classifier-free guidance where it has a null text.
        predict: the model.
        before: changes the tokens before a step, by its number and noise level.

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
