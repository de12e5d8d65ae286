"""Presets: sparse TOML files that add up to a resolved configuration.

A preset file names the presets it is built on (``extends``) and the keys it changes. What the
user writes as ``--set section.key=value`` comes last. Unknown keys are refused with the nearest
known one.
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
from iclora.presets.renamed import refuse_renamed
from iclora.redact import tell_value
from schemas.config import Config

_FOLDER = Path(__file__).parent
_LONGEST = 120
"""Characters of a wrong value in a sentence."""

_DEEPEST = 16
"""Tables and lists in each other, in a setting."""

_LARGEST = (1 << 63) - 1

_MOST_ABOVE = 32
"""Presets in a row that extend each other."""

Tree = dict[str, Any]


def preset_names() -> list[str]:
    """The presets in the package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_config(
    preset: str = "miniature",
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    unshown: Collection[str] = (),
) -> Config:
    """Resolves a preset (a name, or a TOML file of the user) and overrides.

    Args:
        preset: a packaged preset's name or the path of a TOML file.
        overrides: ``section.key=value`` strings (values in TOML syntax; bare words are strings)
            or a mapping of dotted keys to values.
        unshown: dotted keys whose values may be secrets, so that no sentence has them.

    Raises:
        BadConfig: an unknown preset or key, or a value out of range.
    """
    try:
        tree = _read_tree(preset, (), {})
        for key, value in _pairs(overrides):
            _merge(tree, _nested(key.split("."), value))
        tree["preset"] = Path(preset).stem
        refuse_renamed(tree)
        _refuse_unknown(tree, Config, "")
        plain = {key: _plain(value, key) for key, value in tree.items()}
    except RecursionError as error:
        raise BadConfig(f"the tables of {preset} and of what is set are too deep") from error
    try:
        return Config.from_json(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        secret = any(where == key or where.startswith(f"{key}.") for key in unshown)
        given = (tell_value if secret else _beginning)(first.get("input"))
        raise BadConfig(f"{where} = {given}: {first['msg']}") from error


def _beginning(value: object) -> str:
    """A value as a sentence can have it."""
    said = repr(value)
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."


def _read_tree(preset: str, above: tuple[str, ...], known: dict[str, Tree]) -> Tree:
    """A preset and those that it is built on; each file is read once."""
    path = Path(preset) if preset.endswith(".toml") else _FOLDER / f"{preset}.toml"
    if preset in above:
        raise BadConfig(f"preset {preset} extends itself through {' > '.join(above)}")
    if len(above) > _MOST_ABOVE:
        raise BadConfig(f"{above[0]} is built on more than {_MOST_ABOVE} presets in a row")
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
        raise BadConfig(f"{path}: extends is a list of presets, not {_beginning(parents)}")
    for parent in cast("list[object]", parents):
        _merge(tree, _read_tree(str(parent), (*above, preset), known))
    _merge(tree, own)
    known[preset] = deepcopy(tree)
    return tree


def _pairs(overrides: Iterable[str] | Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return [(key, overrides[key]) for key in overrides]
    return [parse_override(text) for text in overrides]


def parse_override(text: str) -> tuple[str, Any]:
    """``section.key=value`` as a dotted key and a value; bare words are strings.

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
    """A value as JSON can have it: TOML's dates as text, because no setting is one.

    Raises:
        BadConfig: it is deeper than any setting, or a number that no machine counts to.
    """
    if depth > _DEEPEST:
        raise BadConfig(f"{where} is too deep to be a setting")
    if isinstance(value, dict):
        parts = cast("Tree", value).items()
        return {key: _plain(one, f"{where}.{key}", depth + 1) for key, one in parts}
    if isinstance(value, list):
        return [_plain(one, where, depth + 1) for one in cast("list[Any]", value)]
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise BadConfig(f"{where} is too large a number to be a setting")
    return value.isoformat() if isinstance(value, date | time) else value


def _nested(keys: list[str], value: Any) -> Tree:
    for key in reversed(keys):
        value = {key: value}
    return cast("Tree", value)


def _merge(tree: Tree, other: Tree) -> None:
    """Puts ``other`` over ``tree``, table by table."""
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
