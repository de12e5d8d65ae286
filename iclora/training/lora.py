"""LoRA adapter on the transformer, its forward pass, and its file format.

Files use the diffusers layout (``transformer.<module>.lora_A.weight``) and carry the LoRA settings
in the header (``lora_adapter_metadata``). They always have alpha = rank, so diffusers, ComfyUI, and
older loaders that ignore alpha agree on the scale.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from torch import Tensor

from iclora.errors import BadInput
from iclora.models.families import Family
from iclora.models.lora_files import PREFIX, read_lora
from iclora.store import atomic_path
from iclora.training.sampler import seed_of

log = logging.getLogger(__name__)

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def add_lora(transformer: Any, family: Family, *, rank: int, seed: int) -> dict[str, Tensor]:
    """Adds a fresh LoRA to every target layer of the family.

    B starts at zero and A uniform in ±1/sqrt(inputs), as in peft and AI-Toolkit. (seed, name)
    determines each draw, so initialization does not depend on construction order.

    Returns:
        Trainable float32 tensors, keyed by their names in the adapter file without the prefix, in a
        fixed order.
    """
    transformer.add_adapter(lora_config(family, rank))
    for layer in transformer.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = False
            layer.lora_variant["default"] = LoraForward()
    tensors = lora_tensors(transformer)
    for name, tensor in tensors.items():
        tensor.data = tensor.data.float()
        if ".lora_A." in name and tensor.device.type != "meta":
            generator = torch.Generator().manual_seed(seed_of(seed, "lora", name))
            bound = tensor.shape[1] ** -0.5
            start = torch.empty(tensor.shape).uniform_(-bound, bound, generator=generator)
            tensor.data.copy_(start)
    return tensors


class LoraForward(LoraVariant):
    """Faster drop-in for peft's forward pass, bitwise identical in its results."""

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        """Computes the base's output plus B A x, ``[..., out]`` for ``x [..., in]``."""
        # alpha = rank, so there is no scale. peft copies x to float32 under autocast; the matrix
        # product would cast it back to bfloat16 and keep both for the backward pass.
        down, up = module.lora_A[active_adapter], module.lora_B[active_adapter]
        dtype = down.weight.dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            x = x.to(dtype)
        return result + up(down(x))


def lora_config(family: Family, rank: int) -> Any:
    """Builds the peft configuration for the family's target layers, with alpha = rank."""
    return LoraConfig(
        r=rank, lora_alpha=rank, target_modules=family.lora_targets, init_lora_weights=True
    )


def lora_tensors(transformer: Any) -> dict[str, Tensor]:
    """Returns the live adapter tensors, sorted and keyed as in the file without the prefix."""
    named = {
        name.replace(".default.", "."): tensor
        for name, tensor in transformer.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }
    return dict(sorted(named.items()))


def lora_header(settings: Any, extra: Mapping[str, str]) -> dict[str, str]:
    """Builds the file metadata: peft's ``LoraConfig`` under diffusers' key, and ``extra``."""
    flat = {
        f"{PREFIX}{key}": sorted(value) if isinstance(value, set) else value
        for key, value in settings.to_dict().items()
    }
    return {
        "format": "pt",
        "lora_adapter_metadata": json.dumps(flat, indent=2, sort_keys=True, default=str),
        **extra,
    }


def save_lora(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], dtype: str
) -> None:
    """Writes an adapter file; equal content produces equal bytes."""
    flat = {
        f"{PREFIX}{name}": tensor.detach().to("cpu", DTYPES[dtype]).contiguous()
        for name, tensor in tensors.items()
    }
    # The order of the metadata differs per process in safetensors: write a header with sorted keys.
    data = safetensors.torch.save(flat)
    (length,) = struct.unpack("<Q", data[:8])
    tree = cast("dict[str, Any]", json.loads(data[8 : 8 + length]))
    text = json.dumps({"__metadata__": dict(sorted(header.items())), **tree}, separators=(",", ":"))
    head = text.encode()
    head += b" " * (-len(head) % 8)
    with atomic_path(path) as scratch:
        scratch.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + length :])


def load_start(tensors: Mapping[str, Tensor], path: Path, family: Family) -> None:
    """Initializes a fresh LoRA from an adapter file (iclora, AI-Toolkit, kohya, or diffusers).

    The file's scale is folded into B, which preserves the function at alpha = rank. A smaller rank
    fills the first rows. Layers missing from the file keep their initialization, which has no
    effect at the start.

    Raises:
        BadInput: the file does not exist, has layers that this base lacks, or has a larger rank.
    """
    if not path.is_file():
        raise BadInput(f"train.lora.start_from: {path} does not exist")
    loaded = read_lora(path, family)
    unknown = sorted(set(loaded) - set(tensors))
    if unknown or not loaded:
        odd = unknown[0] if unknown else "nothing in it"
        raise BadInput(
            f"{path} does not fit this base: {len(unknown)} tensors are unknown, such as {odd}"
        )
    for name, value in loaded.items():
        rows, columns = value.shape
        if rows > tensors[name].shape[0] or columns > tensors[name].shape[1]:
            raise BadInput(
                f"{path}: {name} is {[rows, columns]}, but train.lora.rank asks for "
                f"{list(tensors[name].shape)}"
            )
        tensors[name].data[:rows, :columns].copy_(value.float())
    log.info("%d of %d tensors start from %s", len(loaded), len(tensors), path.name)
