"""Conversion of an AI-Toolkit file to a resolved configuration."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

from iclora.errors import BadConfig
from iclora.presets import load_config, parse_override
from iclora.redact import redact_text
from iclora.training.ai_toolkit.explain import explain_leaf, leaves
from iclora.training.ai_toolkit.keys import DEFAULTS, EMA_DECAY, SECTIONS, Settings
from iclora.training.ai_toolkit.load import Tree, as_table, load_tree
from iclora.training.ai_toolkit.shown import shown_value
from schemas.config import Config

log = logging.getLogger(__name__)

_PRESET = "movie-shots"
_LONGEST_NAME = 80
_UNSAFE = re.compile(r"[^a-z0-9_-]+")


class ToolkitJob(NamedTuple):
    """Training job read from an AI-Toolkit file."""

    name: str
    """Name of the adapter, sanitized for use as a key."""

    folder: str
    """Folder of images and captions; empty if the file has none."""

    config: Config


def read_ai_toolkit(path: Path | str, overrides: Iterable[str] = ()) -> ToolkitJob:
    """Reads an AI-Toolkit file, using AI-Toolkit's defaults for missing keys.

    Args:
        path: YAML or JSON file.
        overrides: iclora settings as ``section.key=value``, which take precedence over the file.

    Raises:
        BadConfig: the file is unreadable, describes an unsupported kind of job, has several
            datasets, or has an unknown or unsupported key; the message names the key.
    """
    tree = load_tree(Path(path))
    every = list(leaves(tree))
    for leaf in every:
        explained = explain_leaf(leaf)
        if explained.status in {"unknown", "refused"}:
            raise BadConfig(f"{leaf.path}: {explained.note}")
        if explained.status != "honoured":
            log.info("%s is %s: %s", leaf.path, explained.status, explained.note)
    settings = dict(DEFAULTS)
    for leaf in every:
        rule = SECTIONS.get(leaf.section, {}).get(leaf.key)
        if rule and leaf.value is not None:
            if rule.target:
                settings[rule.target] = leaf.value
            elif rule.convert:
                settings |= rule.convert(leaf.value)
    process = cast("Tree", tree["config"]["process"][0])
    settings |= _layout(as_table(process.get("sample") or {}, "sample"))
    train = as_table(process.get("train") or {}, "train")
    ema = as_table(train.get("ema_config") or {}, "ema_config")
    settings["train.optimizer.ema_decay"] = (
        ema.get("ema_decay", EMA_DECAY) if ema.get("use_ema", False) else 0.0
    )
    settings = {key: value for key, value in settings.items() if value is not None}
    for key, value in cast("Tree", tree.get("meta") or {}).items():
        note = _UNSAFE.sub("-", key.lower())
        settings[f"train.lora.metadata.{note}"] = redact_text(str(value))
    own = dict(map(parse_override, overrides))
    config = load_config(_PRESET, {**settings, **own}, unshown=settings.keys() - own.keys())
    name = _UNSAFE.sub("-", str(tree["config"].get("name", "adapter")).lower())
    name = name[:_LONGEST_NAME].strip("-_")
    return ToolkitJob(name or "adapter", _folder(process), config)


def _layout(sample: Tree) -> Settings:
    """Derives the panel size from the sampled canvas and the preset's rows and columns."""
    layout = load_config(_PRESET).layout
    sides: Settings = {}
    for key, target, parts in (
        ("width", "layout.panel_width", layout.columns),
        ("height", "layout.panel_height", layout.rows),
    ):
        if key in sample:
            if not isinstance(sample[key], int):
                raise BadConfig(
                    f"sample.{key} is a number of pixels, not {shown_value(sample[key])}"
                )
            sides[target] = sample[key] // parts
    return sides


def _folder(process: Tree) -> str:
    sets: list[Any] = process.get("datasets") or []
    if len(sets) > 1:
        raise BadConfig(
            f"the file has {len(sets)} datasets: build one dataset from all the folders and keep "
            f"one entry"
        )
    return str(sets[0].get("folder_path") or "") if sets else ""
