"""LoRA adapter on the transformer and its file format.

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
    """Builds the peft configuration for the family's target layers, with alpha = rank."""
    from peft import LoraConfig

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
    with atomic_path(path) as scratch:
        scratch.write_bytes(_with_header(safetensors.torch.save(flat), header))


def _with_header(data: bytes, header: Mapping[str, str]) -> bytes:
    """Inserts sorted metadata into safetensors bytes; the library's order varies per process."""
    (length,) = struct.unpack("<Q", data[:8])
    tree = cast("dict[str, Any]", json.loads(data[8 : 8 + length]))
    text = json.dumps({"__metadata__": dict(sorted(header.items())), **tree}, separators=(",", ":"))
    head = text.encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data[8 + length :]


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
    """Copies a tensor of equal or smaller rank into an adapter tensor."""
    rows, columns = value.shape
    if rows > target.shape[0] or columns > target.shape[1]:
        raise BadInput(
            f"{where} is {list(value.shape)}, but train.lora.rank asks for {list(target.shape)}"
        )
    target.data[:rows, :columns].copy_(value)
