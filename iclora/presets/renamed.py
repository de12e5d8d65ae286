"""Renamed settings and presets: an old name is refused with the new one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from iclora.errors import BadConfig

RENAMED_KEYS: Final = {
    "sift": "filter",
    "filter.policy": "filter.safety",
    "filter.safety.nsfw.policy": "filter.safety.nsfw.action",
    "filter.safety.faces.policy": "filter.safety.faces.action",
    "filter.sets.band": "filter.sets.similarity",
    "filter.sets.similarity.floor": "filter.sets.similarity.min_adjacent",
    "filter.sets.similarity.ceiling": "filter.sets.similarity.near_duplicate",
    "filter.sets.similarity.ends": "filter.sets.similarity.min_first_last",
    "filter.sets.similarity.scene": "filter.sets.similarity.same_scene",
    "filter.sets.max_sets_a_scene": "filter.sets.max_sets_per_scene",
    "ingest.candidates": "ingest.candidates_per_shot",
    "ingest.bars": "ingest.crop_bars",
    "ingest.max_failed": "ingest.max_failed_share",
    "caption.way": "caption.mode",
    "caption.captioner.key_variable": "caption.captioner.api_key_env",
    "train.lora.save_as": "train.lora.save_dtype",
    "train.lora.notes": "train.lora.metadata",
    "train.optimizer.schedule": "train.optimizer.lr_schedule",
    "train.optimizer.warmup": "train.optimizer.warmup_steps",
    "train.faults": "train.nonfinite",
    "train.conditional": "train.conditional_probability",
    "train.checkpoint_blocks": "train.activation_checkpointing",
    "train.plan": "train.memory_plan",
    "train.attention": "train.attention_backend",
    "train.validate_times": "train.validate_timesteps",
    "sample.given": "sample.given_mode",
    "evaluate.reader": "evaluate.attribute_reader",
    "evaluate.memorised": "evaluate.max_memorized",
    "evaluate.memorised_tail": "evaluate.memorized_tail",
    "evaluate.missing": "evaluate.max_missing",
    "evaluate.resamples": "evaluate.bootstrap_resamples",
    "evaluate.seed": "evaluate.bootstrap_seed",
}
"""Old key, below the new name of its section, to new key."""

RENAMED_VALUES: Final = {
    ("caption.merge", "plain"): "rules",
    ("caption.captioner.kind", "beside"): "existing",
    ("stitch.crop", "centre"): "center",
}
"""Key (in new names) and old value to new value."""

COMPOSED_PRESETS: Final = {
    f"movie-shots-{base}": ("movie-shots", base)
    for base in ("flux1-dev", "flux1-fill", "flux1-krea", "flux2-klein-4b")
}
"""Old preset to the task and the base that it is composed of now."""


def new_name(key: str) -> str:
    """Return the current name of a dotted key; an unrenamed key is returned as it is."""
    name = ""
    for part in key.split("."):
        name = f"{name}.{part}" if name else part
        name = RENAMED_KEYS.get(name, name)
    return name


def refuse_renamed_preset(preset: str) -> None:
    """Check a preset for an old name.

    Raises:
        BadConfig: a task and a base have taken its place.
    """
    if preset in COMPOSED_PRESETS:
        task, base = COMPOSED_PRESETS[preset]
        raise BadConfig(
            f"preset {preset} is now two: --preset {task} --base {base} (in a TOML file, "
            f'extends = ["{task}", "{base}"])'
        )


def refuse_renamed(tree: Mapping[str, Any]) -> None:
    """Check a configuration for old names.

    Raises:
        BadConfig: a key or a value has been renamed.
    """
    for key, value in _leaves(tree, ""):
        name = new_name(key)
        if name != key:
            raise BadConfig(f"{key} is now called {name}")
        if isinstance(value, str) and (key, value) in RENAMED_VALUES:
            new = RENAMED_VALUES[key, value]
            raise BadConfig(f"{key} = {value!r} is now called {new!r}")


def _leaves(tree: Mapping[str, Any], where: str) -> Iterable[tuple[str, Any]]:
    for key, value in tree.items():
        # An empty table has no leaf, but its name can be an old one too.
        if isinstance(value, Mapping) and value:
            yield from _leaves(cast("Mapping[str, Any]", value), f"{where}{key}.")
        else:
            yield f"{where}{key}", value
