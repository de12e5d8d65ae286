"""Presets: sparse TOML files that add up to a resolved configuration.

A preset file names the presets it is built on (``extends``) and the keys it changes. A preset of a
task and a preset of a base model compose. What the user writes as ``--set section.key=value`` comes
last. Unknown keys are refused with the nearest known one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from datetime import date, time
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from iclora.errors import BadConfig
from iclora.presets.renamed import refuse_renamed, refuse_renamed_preset
from iclora.redact import tell_value
from schemas.config import Config

_FOLDER = Path(__file__).parent

DEMO_PRESET = "miniature"
"""Preset of the demo: the small models in the package."""

_MAX_SHOWN = 120
"""Maximum number of characters of a wrong value in a message."""

_MAX_DEPTH = 16
"""Maximum nesting of tables and lists in a setting."""

_MAX_INTEGER = (1 << 63) - 1

_MAX_EXTENDS = 32
"""Maximum length of a chain of presets that extend each other."""

Tree = dict[str, Any]


def preset_names() -> list[str]:
    """Returns the names of the presets in the package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def base_names() -> list[str]:
    """Returns the names of the packaged presets that name a base model, sorted."""
    return [name for name in preset_names() if _names_base(_read_tree(name, (), {}))]


def task_names() -> list[str]:
    """Returns the names of the packaged presets with a layout and no base model, sorted."""
    trees = {name: _read_tree(name, (), {}) for name in preset_names()}
    return [name for name, tree in trees.items() if "layout" in tree and not _names_base(tree)]


def load_config(
    preset: str = "",
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    base: str = "",
    unshown: Collection[str] = (),
) -> Config:
    """Resolves a preset, the base preset that it is trained on, and overrides.

    A packaged task comes first and the base over it; a TOML file of the user comes over the base.
    Overrides come last. Only the base names a base model, and nothing but overrides changes that.

    Args:
        preset: name of a packaged preset or path of a TOML file; empty for the base alone, and for
            the miniature if there is no base either.
        overrides: ``section.key=value`` strings (values in TOML syntax; bare words are strings)
            or a mapping of dotted keys to values.
        base: name or path of a preset that names a base model; empty if ``preset`` names one or
            needs none.
        unshown: dotted keys whose values may be secrets, so that no sentence has them.

    Raises:
        BadConfig: an unknown preset or key, two base models or none, or a value out of range.
    """
    preset = preset or ("" if base else DEMO_PRESET)
    try:
        tree = _compose(preset, base) if base else _read_tree(preset, (), {})
        tree["preset"] = "-".join(Path(name).stem for name in (preset, base) if name)
        return _resolve(tree, overrides, unshown)
    except RecursionError as error:
        raise BadConfig(f"the tables of {preset} and of what is set are too deep") from error


def override_config(config: Config, overrides: Iterable[str]) -> Config:
    """Returns a resolved configuration with ``section.key=value`` overrides on top.

    Raises:
        BadConfig: an unknown key, or a value out of range.
    """
    try:
        return _resolve(config.to_json(), overrides, ())
    except RecursionError as error:
        raise BadConfig("the tables of what is set are too deep") from error


def require_preset(preset: str, base: str, dataset_preset: str = "") -> None:
    """Refuses to use the miniature models because nobody named others.

    Args:
        preset: as for ``load_config``.
        base: likewise.
        dataset_preset: preset that the dataset in use was built with; the demo's needs no other.

    Raises:
        BadConfig: neither a preset nor a base is given, and the dataset is not the demo's.
    """
    if not (preset or base or dataset_preset == DEMO_PRESET):
        raise BadConfig(
            "no preset: name a task and a base model, such as --preset movie-shots --base "
            "flux1-dev (in a flow, the parameters preset and base), or your own TOML, or "
            "--preset miniature for the small demo models; "
            f"tasks are {', '.join(task_names())}; bases are {', '.join(base_names())}"
        )


def _compose(preset: str, base: str) -> Tree:
    """Merges a preset, if there is one, with the base preset that it is trained on."""
    tree: Tree = _read_tree(preset, (), {}) if preset else {}
    if "base" in tree:
        raise BadConfig(f"{preset} names a base model itself: leave out the base {base}")
    is_task = bool(preset) and not preset.endswith(".toml")
    # A base that extends a task of its own, as the miniature does, extends the given one instead.
    known = dict.fromkeys(task_names(), tree) if is_task else {}
    base_tree = _read_tree(base, (), known)
    if not _names_base(base_tree):
        raise BadConfig(f"{base} names no base model; bases are {', '.join(base_names())}")
    # A base adapts a task: the miniature draws every one in small. A user's file has the last word.
    below, above = (tree, base_tree) if is_task else (base_tree, tree)
    _merge(below, above)
    return below


def _names_base(tree: Tree) -> bool:
    """Checks if a preset names a base model."""
    base = tree.get("base")
    return isinstance(base, dict) and "model" in base


def _resolve(
    tree: Tree, overrides: Iterable[str] | Mapping[str, Any], unshown: Collection[str]
) -> Config:
    """Merges overrides into a tree, which this changes, and validates the result."""
    pairs = overrides.items() if isinstance(overrides, Mapping) else map(parse_override, overrides)
    for key, value in pairs:
        for part in reversed(key.split(".")):
            value = {part: value}  # noqa: PLW2901 - nested from the inside out
        _merge(tree, value)
    refuse_renamed(tree)
    _refuse_unknown(tree, Config, "")
    plain = {key: _plain(value, key) for key, value in tree.items()}
    try:
        return Config.from_json(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        secret = any(where == key or where.startswith(f"{key}.") for key in unshown)
        value = (tell_value if secret else _shortened)(first.get("input"))
        raise BadConfig(f"{where} = {value}: {first['msg']}") from error


def _shortened(value: object) -> str:
    """Returns a value's representation, cut to the length that a sentence can carry."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]} ..."


def _read_tree(preset: str, above: tuple[str, ...], known: dict[str, Tree]) -> Tree:
    """Reads a preset and those that it extends; each file is read once.

    Args:
        preset: name or path.
        above: presets that extend this one, outermost first.
        known: trees that have been read, by name or path.
    """
    refuse_renamed_preset(preset)
    path = Path(preset) if preset.endswith(".toml") else _FOLDER / f"{preset}.toml"
    if preset in above:
        raise BadConfig(f"preset {preset} extends itself through {' > '.join(above)}")
    if len(above) > _MAX_EXTENDS:
        raise BadConfig(f"{above[0]} is built on more than {_MAX_EXTENDS} presets in a row")
    if preset in known:
        return deepcopy(known[preset])
    if not path.is_file():
        raise BadConfig(f"no preset {preset!r}{_nearest(preset, preset_names())}")
    try:
        own: Tree = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:  # of TOML, of its depth, or of UTF-8
        raise BadConfig(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}") from error
    tree: Tree = {}
    parents = own.pop("extends", [])
    if not isinstance(parents, list):
        raise BadConfig(f"{path}: extends is a list of presets, not {_shortened(parents)}")
    for parent in cast("list[object]", parents):
        _merge(tree, _read_tree(str(parent), (*above, preset), known))
    _merge(tree, own)
    known[preset] = deepcopy(tree)
    return tree


def parse_override(text: str) -> tuple[str, Any]:
    """Splits ``section.key=value`` into a dotted key and a value; bare words are strings.

    Raises:
        BadConfig: there is no key or no equals sign.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise BadConfig(f"--set takes section.key=value, not {text!r}")
    try:
        return key.strip(), tomllib.loads(f"value = {value.strip()}")["value"]
    except RecursionError as error:
        raise BadConfig(f"{key.strip()} is too deep to be a setting") from error
    except ValueError:  # a number with thousands of digits, too
        return key.strip(), value.strip()


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """Converts a value to what JSON can have; TOML's dates become text, because no setting is one.

    Raises:
        BadConfig: it is deeper than any setting, or a number that no machine counts to.
    """
    if depth > _MAX_DEPTH:
        raise BadConfig(f"{where} is too deep to be a setting")
    if isinstance(value, dict):
        items = cast("Tree", value).items()
        return {key: _plain(item, f"{where}.{key}", depth + 1) for key, item in items}
    if isinstance(value, list):
        return [_plain(item, where, depth + 1) for item in cast("list[Any]", value)]
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise BadConfig(f"{where} is too large a number to be a setting")
    return value.isoformat() if isinstance(value, date | time) else value


def _merge(tree: Tree, other: Tree) -> None:
    """Merges ``other`` over ``tree`` in place, table by table."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merge(tree[key], cast("Tree", value))
        else:
            tree[key] = value


def _refuse_unknown(tree: Tree, schema: type[BaseModel], where: str) -> None:
    for key, value in tree.items():
        field = schema.model_fields.get(key)
        if field is None:
            known = [f"{where}{name}" for name in schema.model_fields]
            raise BadConfig(f"unknown key {where}{key}{_nearest(where + key, known)}")
        kind = field.annotation
        if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
            _refuse_unknown(cast("Tree", value), kind, f"{where}{key}.")


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
