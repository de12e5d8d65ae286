"""The adapter on the transformer, and its files.

Files follow diffusers' layout (``transformer.<module>.lora_A.weight``), carry the LoRA's settings
in the header (``lora_adapter_metadata``) and always have alpha = rank, so diffusers, ComfyUI and
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
from torch import Tensor

from iclora.errors import BadInput
from iclora.models.families import Family
from iclora.models.lora_files import PREFIX, read_lora
from iclora.store import atomic_path
from iclora.training.sampler import seed_of

log = logging.getLogger(__name__)

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def add_lora(transformer: Any, family: Family, *, rank: int, seed: int) -> dict[str, Tensor]:
    """Puts a fresh LoRA on every layer that the family names.

    B is zero, A uniform in ±1/sqrt(inputs) (peft's and AI-Toolkit's start), drawn from (seed, name)
    so that it does not depend on the order of construction.

    Returns:
        The trainable tensors by peft's names, float32, in a fixed order.
    """
    from iclora.training.lora_forward import use_lora_forward  # late, as peft is below

    transformer.add_adapter(lora_config(family, rank))
    use_lora_forward(transformer)
    tensors = lora_tensors(transformer)
    for name, tensor in tensors.items():
        tensor.data = tensor.data.float()
        if ".lora_A." in name and tensor.device.type != "meta":
            generator = torch.Generator().manual_seed(seed_of(seed, "lora", name))
            bound = tensor.shape[1] ** -0.5
            start = torch.empty(tensor.shape).uniform_(-bound, bound, generator=generator)
            tensor.data.copy_(start)
    return tensors


def lora_config(family: Family, rank: int) -> Any:
    """Peft's settings of an adapter: every layer that the family names, alpha = rank."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank, lora_alpha=rank, target_modules=family.lora_targets, init_lora_weights=True
    )


def lora_tensors(transformer: Any) -> dict[str, Tensor]:
    """The adapter's live tensors, keyed as in its file without the prefix, sorted."""
    named = {
        name.replace(".default.", "."): tensor
        for name, tensor in transformer.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }
    return dict(sorted(named.items()))


def lora_header(settings: Any, extra: Mapping[str, str]) -> dict[str, str]:
    """The header's metadata: diffusers' key with peft's settings (``LoraConfig``), and ours."""
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
    """Writes an adapter file; equal content gives equal bytes."""
    flat = {
        f"{PREFIX}{name}": tensor.detach().to("cpu", DTYPES[dtype]).contiguous()
        for name, tensor in tensors.items()
    }
    with atomic_path(path) as scratch:
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

    Its scale is folded into B, so that it starts where it left off at alpha = rank. A smaller rank
    fills the first rows; layers that the file lacks stay fresh, which changes nothing at first.

    Raises:
        BadInput: the file does not exist, has layers that this base lacks, or a larger rank.
    """
    if not path.is_file():
        raise BadInput(f"train.lora.start_from: {path} does not exist")
    found = read_lora(path, family)
    unknown = sorted(set(found) - set(tensors))
    if unknown or not found:
        odd = unknown[0] if unknown else "nothing in it"
        raise BadInput(
            f"{path} does not fit this base: {len(unknown)} tensors are unknown, such as {odd}"
        )
    for name, value in found.items():
        _copy_into(tensors[name], value.float(), f"{path}: {name}")
    log.info("%d of %d tensors start from %s", len(found), len(tensors), path.name)


def _copy_into(target: Tensor, value: Tensor, where: str) -> None:
    """Puts a tensor of smaller or equal rank into the adapter's."""
    rows, columns = value.shape
    if rows > target.shape[0] or columns > target.shape[1]:
        raise BadInput(
            f"{where} is {list(value.shape)}, but train.lora.rank asks for {list(target.shape)}"
        )
    target.data[:rows, :columns].copy_(value)
