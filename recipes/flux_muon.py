"""Muon for matrices, Adam for the rest: about twice the progress a step of AdamW alone.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the size of an update
as in Liu et al. 2025, "Muon is scalable for LLM training", so that both kinds share a rate's scale.
``torch.optim.Muon`` takes matrices only and computes in bfloat16, which processors without such
units do a hundred times slower than float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final, overload

import torch
from torch import Tensor

_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
_ROUNDS: Final = 5
_ADAM_SIZE: Final = 0.2
"""The root mean square of a usual Adam update."""


class Muon(torch.optim.Optimizer):
    """Moves matrices along their orthogonalised momentum and all other tensors as Adam does.

    Filters of convolutions count as matrices: a row for each output channel.

    Args:
        matrices: Trained by Muon.
        others: Trained by Adam: gains, biases, embeddings, first and last layers.
        rate: The learning rate; a schedule may set every group's ``lr`` later.
        decay: Decoupled weight decay of the matrices.
    """

    def __init__(
        self, matrices: Iterable[Tensor], others: Iterable[Tensor], rate: float, decay: float = 0.0
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "muon": True, "decay": decay},
            {"params": list(others), "muon": False, "decay": 0.0},
        ]
        super().__init__([group for group in groups if group["params"]], {"lr": rate})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every tensor that has a gradient."""
        assert closure is None, "this optimizer looks at a loss once"
        for group in self.param_groups:
            update = _muon if group["muon"] else _adam
            for tensor in group["params"]:
                if tensor.grad is not None:
                    tensor.mul_(1 - group["lr"] * group["decay"])
                    tensor.add_(update(tensor.grad, self.state[tensor]), alpha=-group["lr"])
        return None


def orthogonalised(matrix: Tensor) -> Tensor:
    """The nearest matrix with all singular values near 1, by five Newton-Schulz rounds."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    one, three, five = _COEFFICIENTS
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = one * x + (three * square + five * square @ square) @ x
    return x.T if tall else x


def _muon(gradient: Tensor, state: dict[str, Any]) -> Tensor:
    if not state:
        state["momentum"] = torch.zeros_like(gradient)
    state["momentum"].mul_(0.95).add_(gradient)
    flat = gradient.add(state["momentum"], alpha=0.95).flatten(1)
    return orthogonalised(flat).mul_(_ADAM_SIZE * math.sqrt(max(flat.shape))).view_as(gradient)


def _adam(gradient: Tensor, state: dict[str, Any]) -> Tensor:
    if not state:
        state["count"] = torch.zeros(())
        state["first"], state["second"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["count"] += 1
    count = float(state["count"])
    state["first"].lerp_(gradient, 0.1)
    state["second"].mul_(0.98).addcmul_(gradient, gradient, value=0.02)
    size = (state["second"] / (1 - 0.98**count)).sqrt_().add_(1e-8)
    return state["first"] / (1 - 0.9**count) / size
