"""Weights saved as bfloat16 safetensors that load as float32, to halve their size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch


def save_half(model: Any, folder: Path) -> None:
    """Saves a transformers model in bfloat16 with a config that requests float32 on loading.

    Processors without bfloat16 units would otherwise compute in it, slowly and less exactly.
    The model itself stays in bfloat16.
    """
    model.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    path = folder / "config.json"
    path.write_text(json.dumps(_as_float32(json.loads(path.read_bytes())), indent=2) + "\n")


def _as_float32(config: dict[str, Any]) -> dict[str, Any]:
    nested = {
        key: _as_float32(value) if isinstance(value, dict) else value
        for key, value in config.items()
    }
    return nested | {"dtype": "float32"} if "dtype" in nested else nested
