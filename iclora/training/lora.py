"""The adapter on the transformer, and its files.

Files follow diffusers' layout (``transformer.<module>.lora_A.weight``), carry the LoRA's settings in
the header (``lora_adapter_metadata``) and always have alpha = rank, so diffusers, ComfyUI and older
loaders that ignore alpha agree on the scale.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor

from iclora.errors import BadInput
from iclora.models.families import Family
from iclora.store import whole
from iclora.training.order import seed_of

PREFIX = "transformer."
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def add_lora(transformer: Any, family: Family, *, rank: int, seed: int) -> dict[str, Tensor]:
    """Puts a fresh LoRA on every layer that the family names.

    B is zero, A uniform in ±1/sqrt(inputs) (peft's and AI-Toolkit's start), drawn from (seed, name)
    so that it does not depend on the order of construction.

    Returns:
        The trainable tensors by peft's names, float32, in a fixed order.
    """
    from peft import LoraConfig

    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=family.lora_targets, init_lora_weights=True
    )
    transformer.add_adapter(config)
    tensors = lora_tensors(transformer)
    for name, tensor in tensors.items():
        tensor.data = tensor.data.float()
        if ".lora_A." in name and tensor.device.type != "meta":
            generator = torch.Generator().manual_seed(seed_of(seed, "lora", name))
            bound = tensor.shape[1] ** -0.5
            start = torch.empty(tensor.shape).uniform_(-bound, bound, generator=generator)
            tensor.data.copy_(start)
    return tensors


def lora_tensors(transformer: Any) -> dict[str, Tensor]:
    """The adapter's live tensors, keyed as in its file without the prefix, sorted."""
    named = {
        name.replace(".default.", "."): tensor
        for name, tensor in transformer.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }
    return dict(sorted(named.items()))


def lora_header(transformer: Any, extra: Mapping[str, str]) -> dict[str, str]:
    """The header's metadata: diffusers' key with peft's settings, and ours."""
    settings = transformer.peft_config["default"].to_dict()
    flat = {
        f"{PREFIX}{key}": sorted(value) if isinstance(value, set) else value
        for key, value in settings.items()
    }
    return {
        "format": "pt",
        "lora_adapter_metadata": json.dumps(flat, indent=2, sort_keys=True, default=str),
        **extra,
    }


def save_lora(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str], dtype: str
) -> None:
    """Writes an adapter file; equal content gives equal bytes."""
    flat = {
        f"{PREFIX}{name}": tensor.detach().to("cpu", DTYPES[dtype]).contiguous()
        for name, tensor in tensors.items()
    }
    with whole(path) as scratch:
        scratch.write_bytes(_with_header(safetensors.torch.save(flat), header))


def _with_header(data: bytes, header: Mapping[str, str]) -> bytes:
    """Puts sorted metadata into a safetensors file; the library's own order changes by process."""
    (length,) = struct.unpack("<Q", data[:8])
    tree = cast("dict[str, Any]", json.loads(data[8 : 8 + length]))
    text = json.dumps({"__metadata__": dict(sorted(header.items())), **tree}, separators=(",", ":"))
    head = text.encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data[8 + length :]


def load_start(tensors: Mapping[str, Tensor], path: Path, family: Family) -> None:
    """Copies an adapter file (ours, AI-Toolkit's, kohya's, diffusers') into a fresh LoRA.

    Raises:
        BadInput: the file's layers or ranks are not this adapter's.
    """
    import diffusers

    loader = getattr(diffusers, family.pipeline)
    if not path.is_file():
        raise BadInput(f"train.lora.start_from: {path} does not exist")
    state, alphas, _ = loader.lora_state_dict(
        str(path.resolve()), return_alphas=True, return_lora_metadata=True, use_safetensors=True
    )
    named = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    missing = sorted(set(tensors) - set(named))
    unknown = sorted(set(named) - set(tensors))
    if missing or unknown:
        odd = (missing or unknown)[0]
        raise BadInput(
            f"{path} does not fit: {len(missing)} tensors are missing and {len(unknown)} unknown, "
            f"such as {odd}"
        )
    for name, tensor in tensors.items():
        value = named[name]
        if value.shape != tensor.shape:
            raise BadInput(
                f"{path}: {name} is {list(value.shape)}, but train.lora.rank asks for "
                f"{list(tensor.shape)}"
            )
        alpha = (alphas or {}).get(f"{PREFIX}{name.rsplit('.lora_', 1)[0]}.alpha")
        scale = 1.0
        if alpha is not None and ".lora_B." in name:
            scale = float(alpha) / value.shape[1]
        tensor.data.copy_(value.float() * scale)
