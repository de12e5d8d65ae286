"""The adapter's branch beside a frozen layer: what peft computes, with less work.

alpha is the rank here, so peft's multiplication of every output by 1 is left out; and under
autocast peft makes float32 copies of every input, which the matrix product turns back into
bfloat16 and keeps for the backward pass. The numbers are the same to the last bit.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from torch import Tensor


class LoraForward(LoraVariant):
    """Base output plus B A x: peft's seam for another forward pass of its layers."""

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """See ``LoraVariant``: the whole output, ``[..., out]`` for ``x [..., in]``."""
        down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
        dtype = down.weight.dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            x = x.to(dtype)
        return result + up(down(x))


def use_lora_forward(transformer: Any, adapter: str = "default") -> None:
    """Uses ``LoraForward`` in every layer with a fresh adapter, which must have alpha = rank."""
    for layer in transformer.modules():
        if isinstance(layer, LoraLayer) and adapter in layer.lora_A:
            assert layer.scaling[adapter] == 1.0, "only alpha = rank needs no factor"
            layer.cast_input_dtype_enabled = False
            layer.lora_variant[adapter] = LoraForward()
