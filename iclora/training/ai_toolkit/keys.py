"""Translation rules for every key of AI-Toolkit's FLUX trainer.

``upstream_keys.json`` has a row for every key; conversions that need code are in ``CONVERTERS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from iclora.errors import BadConfig
from iclora.training.ai_toolkit.shown import nearest, shown_key, shown_value
from iclora.training.ai_toolkit.upstream import upstream_table

Settings = dict[str, Any]
"""Mapping from ``Config`` keys to values."""

Converter = Callable[[Any], Settings]
"""Conversion of a value to settings; raises ``BadConfig`` for a value that is not supported."""


class Rule(NamedTuple):
    """Translation rule of one key."""

    status: str = "honoured"
    note: str = ""
    target: str = ""
    """``Config`` key that receives the value unchanged."""

    convert: Converter | None = None
    """Conversion of the value to settings, used without a ``target``."""

    inert: tuple[Any, ...] | None = None
    """Values with which the key has no effect; any other value is rejected."""


def choose(key: str, choices: dict[str, Settings]) -> Converter:
    """Builds a converter that maps names to settings."""

    def convert(value: Any) -> Settings:
        if str(value) not in choices:
            raise BadConfig(
                f"{key} {shown_value(value)} is not supported; known are {', '.join(choices)}"
                f"{nearest(value, choices)}"
            )
        return choices[str(value)]

    return convert


def rename(key: str, target: str, names: dict[str, str]) -> Converter:
    """Builds a converter that maps names to values of one setting."""
    return choose(key, {name: {target: ours} for name, ours in names.items()})


def when_on(settings: Settings) -> Converter:
    """Builds a converter for a switch that changes settings if it is on."""
    return lambda on: settings if on else {}


_PATH = re.compile(r"(?:\.{0,2}|~|[A-Za-z]:)[\\/].+|[\w.-]+(?:/[\w.-]+)+|[\w.-]+\.safetensors")


def path_to(target: str) -> Converter:
    """Builds a converter that copies only paths and hub ids; other values may be secrets."""

    def convert(value: Any) -> Settings:
        text = str(value or "")
        if text and not _PATH.fullmatch(text) and not Path(text).exists():
            raise BadConfig(
                f"{shown_value(value)} is neither a path here nor a hub id such as "
                "black-forest-labs/FLUX.1-dev"
            )
        return {target: value}

    return convert


def _refuse_others(table: dict[str, Any], name: str, known: set[str]) -> None:
    for number, key in enumerate(table, 1):
        if key not in known:
            raise BadConfig(f"{name}.{shown_key(key, number)} is not supported")


def _optimizer_params(value: Any) -> Settings:
    _refuse_others(value, "train.optimizer_params", {"betas", "eps", "weight_decay"})
    return {f"train.optimizer.{key}": setting for key, setting in value.items()}


def _schedule_params(value: Any) -> Settings:
    for key, falling in (("start_factor", 1), ("end_factor", 0)):
        if value.get(key, falling) != falling:
            raise BadConfig(f"train.lr_scheduler_params.{key} must be {falling}")
    known = {"num_warmup_steps", "factor", "total_iters", "start_factor", "end_factor"}
    _refuse_others(value, "train.lr_scheduler_params", known)
    if "num_warmup_steps" in value:
        return {"train.optimizer.warmup_steps": value["num_warmup_steps"]}
    return {}


def _family(value: Any) -> Settings:
    known = {"flux": "flux1", "flux2_klein_4b": "flux2-klein", "flux2_klein": "flux2-klein"}
    if value not in known:
        raise BadConfig(
            f"model.arch {shown_value(value)} is not supported; known are {', '.join(known)}"
        )
    return {"base.family": known[value]}


_DTYPES = {
    "fp16": "fp16",
    "float16": "fp16",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp32": "fp32",
    "float32": "fp32",
    "float": "fp32",
}
_PRECISIONS = {name: "fp32" if ours == "fp32" else "bf16" for name, ours in _DTYPES.items()}
_SCHEDULES: dict[str, Settings] = {
    name: {"train.optimizer.lr_schedule": name} for name in ("constant", "cosine", "linear")
}
_SCHEDULES["constant_with_warmup"] = {
    "train.optimizer.lr_schedule": "constant",
    "train.optimizer.warmup_steps": 1000,
}
_OPTIMIZERS = {"adamw": "adamw", "adamw8bit": "adamw8bit"}
_SAMPLERS = {"sigmoid": "sigmoid", "linear": "uniform", "flux_shift": "shift", "shift": "shift"}
_BELL = {"train.noise.sampler": "uniform", "train.noise.weighting": "bell"}

CONVERTERS: dict[str, Converter] = {
    "network.pretrained_lora_path": path_to("train.lora.start_from"),
    "save.dtype": rename("save.dtype", "train.lora.save_dtype", _DTYPES),
    "datasets.resolution": lambda value: {
        "data.resolutions": value if isinstance(value, list) else [value]
    },
    "train.gradient_checkpointing": lambda on: {
        "train.activation_checkpointing": 1.0 if on else 0.0
    },
    "train.optimizer": rename("train.optimizer", "train.optimizer.name", _OPTIMIZERS),
    "train.optimizer_params": _optimizer_params,
    "train.lr_scheduler": choose("train.lr_scheduler", _SCHEDULES),
    "train.lr_scheduler_params": _schedule_params,
    "train.dtype": rename("train.dtype", "train.precision", _PRECISIONS),
    "train.timestep_type": rename("train.timestep_type", "train.noise.sampler", _SAMPLERS),
    "train.linear_timesteps": when_on(_BELL),
    "train.disable_sampling": when_on({"train.sample_every": 0}),
    "train.attention_backend": lambda name: {
        "train.attention_backend": "" if name == "native" else str(name)
    },
    "model.name_or_path": path_to("base.model"),
    "model.is_flux": when_on({"base.family": "flux1"}),
    "model.arch": _family,
    "model.quantize": when_on({"train.weights": "fp8"}),
    "model.assistant_lora_path": path_to("train.training_adapter"),
    "model.lora_path": path_to("train.training_adapter"),
    "sample.prompts": lambda value: {
        "sample.prompts": [str(text).partition(" --")[0] for text in value]
    },
}
"""Conversions by section and key."""

_OFF = (None, False, 0, "", [], {})


def _rule(section: str, key: str, row: dict[str, Any]) -> Rule:
    """Builds the rule of a row.

    ``to`` copies the value to a setting, ``only`` lists the values that have no effect, ``near``
    marks a key that iclora approximates in another way, and ``dead`` one that AI-Toolkit itself
    ignores for FLUX.
    """
    status, note = "honoured", row.get("note", row.get("to", ""))
    if "near" in row:
        status, note = "approximated", row["near"]
    elif "dead" in row:
        status, note = "ignored upstream", row["dead"]
    inert = None
    if "only" in row:
        inert = _OFF if row["only"] == "off" else tuple(row["only"])
    return Rule(status, note, row.get("to", ""), CONVERTERS.get(f"{section}.{key}"), inert)


SECTIONS: dict[str, dict[str, Rule]] = {
    section: {key: _rule(section, key, row) for key, row in rows.items()}
    for section, rows in cast("dict[str, dict[str, Any]]", upstream_table()["rules"]).items()
}
"""Rules by section of the process and key; the process's own keys have the section ``""``."""


@cache
def upstream_keys() -> dict[str, frozenset[str]]:
    """Returns every key that AI-Toolkit accepts, by section, with or without a rule here."""
    names = {"": "process", "train.ema_config": "ema"}
    keys = upstream_table()["keys"]
    return {name: frozenset(keys[names.get(name, name)]) for name in SECTIONS}


DEFAULTS: Settings = {
    "train.lora.rank": 4,
    "train.save_every": 1000,
    "train.keep_checkpoints": 5,
    "train.lora.save_dtype": "fp16",
    "data.resolutions": [512],
    "data.caption_dropout": 0.0,
    "train.batch": 1,
    "train.steps": 1000,
    "train.optimizer.lr": 1e-6,
    "train.optimizer.name": "adamw",
    "train.optimizer.ema_decay": 0.0,
    "train.activation_checkpointing": 1.0,
    "train.precision": "fp32",
    "train.noise.guidance": 1.0,
    "train.sample_every": 100,
    "sample.guidance": 7.0,
    "sample.steps": 20,
    "sample.seed": 0,
}
"""AI-Toolkit defaults that differ from iclora's."""

EMA_DECAY = 0.999
"""AI-Toolkit's EMA decay if ``use_ema`` is set without ``ema_decay``."""
