"""The miniature CLIP as an open_clip folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

from iclora.miniature.sizes import FamilySize
from iclora.miniature.tokenizer import END, PAD, build_tokenizer, token_id, vocabulary_size

WEIGHTS = "open_clip_model.safetensors"


def clip_config(size: FamilySize) -> dict[str, Any]:
    """Returns the content of ``open_clip_config.json``."""
    vision, text = size.clip_vision, size.clip_text
    return {
        "model_cfg": {
            "embed_dim": vision.width,
            "vision_cfg": {
                "image_size": size.panel,
                "layers": vision.layers,
                "width": vision.width,
                "head_width": vision.width // vision.heads,
                "patch_size": size.patch,
                "pool_type": "avg",
            },
            "text_cfg": {
                "context_length": size.context,
                "vocab_size": vocabulary_size(),
                "width": text.width,
                "heads": text.heads,
                "layers": text.layers,
                "hf_tokenizer_name": ".",
                "pad_id": token_id(PAD),
                "eos_id": token_id(END),
            },
        },
        "preprocess_cfg": {
            "size": size.panel,
            "mode": "RGB",
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def build_clip(size: FamilySize) -> open_clip.CLIP:
    """Builds a CLIP with random weights from torch's global generator."""
    config = clip_config(size)["model_cfg"]
    return open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])


def save_clip(model: torch.nn.Module, folder: Path, size: FamilySize) -> None:
    """Writes all files that ``open_clip.create_model_and_transforms('local-dir:…')`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer("both", context=size.context).save_pretrained(folder)
    text = json.dumps(clip_config(size), indent=1, sort_keys=True) + "\n"
    (folder / "open_clip_config.json").write_text(text, encoding="utf-8")
    weights = {
        name: value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
