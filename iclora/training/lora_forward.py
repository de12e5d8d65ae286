"""Faster drop-in for peft's LoRA forward pass, bitwise identical in its results.

alpha equals the rank here, so this pass skips peft's multiplication of every output by 1. It also
skips the float32 copy that peft makes of every input under autocast, which the matrix product
casts back to bfloat16 and keeps for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from torch import Tensor


class LoraForward(LoraVariant):
    """Forward pass that returns the base output plus B A x, as a peft LoRA variant."""

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """Computes the full layer output, ``[..., out]`` for ``x [..., in]``."""
        down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
        dtype = down.weight.dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            x = x.to(dtype)
        return result + up(down(x))


def use_lora_forward(transformer: Any, adapter: str = "default") -> None:
    """Installs ``LoraForward`` in every layer of a fresh adapter, which must have alpha = rank."""
    for layer in transformer.modules():
        if isinstance(layer, LoraLayer) and adapter in layer.lora_A:
            assert layer.scaling[adapter] == 1.0, "only alpha = rank needs no factor"
            layer.cast_input_dtype_enabled = False
            layer.lora_variant[adapter] = LoraForward()
