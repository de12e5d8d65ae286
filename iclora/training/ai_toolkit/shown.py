"""Redaction of AI-Toolkit keys and values in messages.

Files may contain access tokens. A message replaces a value by its type unless it is a number,
boolean, date, or AI-Toolkit word, and a key by its position unless it looks like a key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache

from iclora.redact import tell_value
from iclora.training.ai_toolkit.upstream import upstream_table

_WORDS = frozenset({
    # Jobs and processes.
    "custom_sd_trainer", "diffusion_trainer", "extension", "extract", "generate",
    "image_generator", "mod",
    "sd_trainer", "slider", "textual_inversion_trainer", "train", "ui_trainer",
    # Networks.
    "dora", "full", "locon", "loha", "lokr", "lora", "lorm",
    # Optimizers and schedules.
    "adafactor", "adagrad", "adam", "adam8bit", "adamw", "adamw8bit", "adamw_8bit", "automagic",
    "constant",
    "constant_with_warmup", "cosine", "cosine_with_restarts", "dadaptation", "dadaptadam",
    "linear", "lion", "lion8bit",
    "polynomial", "prodigy", "prodigy8bit", "prodigyopt", "rose", "sgd", "step",
    # Noise, losses and numbers.
    "balanced", "content", "ddpm", "euler", "flowmatch", "flow", "flux_shift", "lumina2_shift",
    "mae", "mse", "next_sample",
    "one_step", "shift", "sigmoid", "style", "weighted", "bf16", "bfloat16", "float", "float16",
    "float32", "float8", "fp16", "fp32",
    "qfloat8", "qint4", "qint8", "uint3", "uint4",
    # Models.
    "chroma", "flux", "flux2", "flux2_klein", "flux2_klein_4b", "flux2_klein_9b", "flux_kontext",
    "hidream", "lumina2",
    "omnigen2", "qwen_image", "sd1", "sd15", "sd2", "sd3", "sdxl", "wan21", "z_image",
    # Files.
    "caption", "ckpt", "diffusers", "jpg", "json", "png", "safetensors", "txt", "webp",
    # Attention.
    "auto", "flash", "native", "sdpa", "xformers",
})  # fmt: skip
"""AI-Toolkit setting values that are safe to show in messages."""

_PLAIN = re.compile(r"[a-z]{1,14}(?:_[a-z]{1,14}){0,5}(?:_?[0-9]{1,3})?")
_TOKEN_PREFIXES = ("hf", "sk", "pk", "rk", "gho", "ghp", "ghr", "ghs", "ghu", "xox", "pat", "key")
"""Token prefixes of well-known services."""

_LONGEST_KEY = 40


def shown_value(value: object) -> str:
    """Formats a value for a message, redacting possible secrets."""
    return tell_value(value, _WORDS)


def shown_key(key: str, number: int) -> str:
    """Formats a key for a message, redacting possible secrets.

    Args:
        key: key of a table.
        number: 1-based position of the key in its table.
    """
    known = _known_keys()
    if key in known:
        return key
    if len(key) > _LONGEST_KEY:
        return f"(key {number})"
    resembles = difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.8)
    is_plain = key.partition("_")[0] not in _TOKEN_PREFIXES and _PLAIN.fullmatch(key)
    return key if resembles or is_plain else f"(key {number})"


def nearest(value: object, known: Iterable[str]) -> str:
    """Formats a suggestion of the closest known word as the end of a message; empty if none."""
    close = difflib.get_close_matches(str(value)[:_LONGEST_KEY], list(known), n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""


@cache
def _known_keys() -> frozenset[str]:
    tables = upstream_table()
    sections = [*tables["keys"].values(), *tables["rules"].values()]
    names = {"job", "config", "name", "process", "meta", "version"}
    return frozenset(names.union(*sections))
