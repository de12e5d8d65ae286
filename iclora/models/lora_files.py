"""LoRA files from any trainer, read for both training and sampling.

diffusers' loader of each family renames the keys of other trainers (kohya, AI-Toolkit, XLabs). Only
its renaming is used, because its handling of alphas and settings differs by family. The scale
(alpha / rank) is multiplied into B on load, so callers can ignore it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
from torch import Tensor

from iclora.errors import BadInput
from iclora.models.families import Family

PREFIX = "transformer."

_DAMAGE = (
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Exceptions that diffusers' converters raise on damaged or foreign files."""

_UPS = (".lora_B.", ".lora.up.")
"""Name parts of a B matrix: peft's, and diffusers' older one."""


def read_lora(path: Path, family: Family) -> dict[str, Tensor]:
    """Reads a file's tensors under peft's names (``<module>.lora_A.weight``), at scale 1.

    Transformer modules have no prefix; text encoder modules keep theirs.

    Raises:
        BadInput: the file is damaged, or its layout is unknown to this family.
    """
    import diffusers
    from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft

    pipeline: Any = getattr(diffusers, family.pipeline)
    try:
        state = safetensors.torch.load_file(path)
        if not any(".lora_down." in name for name in state):  # kohya's converter does it by itself
            state = _at_scale_one(state, _settings(path))
        renamed = cast("dict[str, Tensor]", pipeline.lora_state_dict(state))
        tensors = cast("dict[str, Tensor]", convert_unet_state_dict_to_peft(renamed))
    except (*_DAMAGE, safetensors.SafetensorError) as error:
        raise BadInput(f"{path} is no LoRA of this base: {first_line(error)}") from error
    return {name.removeprefix(PREFIX): value for name, value in tensors.items()}


def first_line(error: Exception) -> str:
    """Returns the first line of an exception's message, shortened for an error sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _settings(path: Path) -> dict[str, Any]:
    """Reads peft's settings from a file's header; empty if absent."""
    with safetensors.safe_open(path, "pt") as file:  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue, reportUnknownVariableType] - untyped module
        text = (file.metadata() or {}).get("lora_adapter_metadata", "{}")
    settings = cast("dict[str, Any]", json.loads(text))
    return {name.removeprefix(PREFIX): value for name, value in settings.items()}


def _at_scale_one(state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Multiplies every B by its scale and drops the alphas."""
    scaled: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith(".alpha"):
            continue
        up = next((up for up in _UPS if up in name), "")
        module = name.partition(up)[0] if up else ""
        scale = _scale(state, settings, module, up) if up else 1.0
        scaled[name] = value if scale == 1.0 else value.float() * scale
    return scaled


def _scale(state: Mapping[str, Tensor], settings: Mapping[str, Any], module: str, up: str) -> float:
    """Returns alpha / rank of a module: from its own alpha, else from the header, else 1."""
    from peft.utils.other import get_pattern_key

    weight = state.get(f"{module}{up}weight")
    rank = 1 if weight is None else weight.shape[1]
    alpha = state.get(f"{module}.alpha")
    if alpha is not None:
        return float(alpha) / rank
    patterns = cast("dict[str, float]", settings.get("alpha_pattern") or {})
    key = get_pattern_key(list(patterns), module.removeprefix(PREFIX))
    wanted: float = patterns[key] if key in patterns else settings.get("lora_alpha", rank)
    return wanted / (rank**0.5 if settings.get("use_rslora") else rank)
