"""Key-by-key explanation of an AI-Toolkit file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from iclora.errors import BadConfig
from iclora.training.ai_toolkit.keys import SECTIONS, upstream_keys
from iclora.training.ai_toolkit.load import Tree, as_table, load_tree
from iclora.training.ai_toolkit.shown import shown_key, shown_value
from schemas.training import Explained, KeyStatus

_PROCESS = "config.process.0"


class Leaf(NamedTuple):
    """Key of an AI-Toolkit file with its value and location."""

    path: str
    """Redacted path from the root for messages, such as ``config.process.0.train.lr``."""

    section: str
    """Section: a key of ``SECTIONS``; ``top``, ``file``, or ``config`` outside the process."""

    key: str
    value: Any
    siblings: Tree = {}
    """All keys and values of the enclosing section."""


def explain(path: Path | str) -> dict[str, Explained]:
    """Explains how iclora handles every key of an AI-Toolkit file.

    Args:
        path: YAML or JSON file.

    Returns:
        Status and note by dotted path, in file order.

    Raises:
        BadConfig: the file is unreadable or describes an unsupported kind of job.
    """
    return {leaf.path: explain_leaf(leaf) for leaf in leaves(load_tree(Path(path)))}


def explain_leaf(leaf: Leaf) -> Explained:
    """Determines the status and note of one key."""
    if leaf.section == "top":
        return _TOP[leaf.key]
    rule = SECTIONS.get(leaf.section, {}).get(leaf.key)
    if rule is None and leaf.key in upstream_keys().get(leaf.section, ()):
        return Explained(status="refused", note="AI-Toolkit reads it, iclora has no such setting")
    if rule is None:
        return Explained(status="unknown", note=_nearest(leaf))
    if rule.inert is not None and not any(_same(leaf.value, value) for value in rule.inert):
        return Explained(
            status="refused", note=f"{shown_value(leaf.value)} is not supported: {rule.note}"
        )
    fault = ""
    if rule.convert:
        try:
            rule.convert(leaf.value)
        except BadConfig as error:
            fault = str(error)
        except (TypeError, ValueError, AttributeError, LookupError):  # value of a wrong type
            fault = f"{shown_value(leaf.value)} is nothing that it can be"
    if fault := fault or _rising(leaf):
        return Explained(status="refused", note=fault)
    return Explained(status=cast("KeyStatus", rule.status), note=rule.note)


_TOP = {
    "job": Explained(status="honoured", note="a training"),
    "name": Explained(status="honoured", note="the adapter's name"),
    "meta": Explained(status="honoured", note="train.lora.metadata: in the header of the files"),
}


def _same(value: Any, other: Any) -> bool:
    """Compares two values without equating booleans and numbers (``0 == False`` in Python)."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _rising(leaf: Leaf) -> str:
    """Rejects ``linear`` without falling factors; upstream it is torch's LinearLR, which rises."""
    if (leaf.section, leaf.key, leaf.value) != ("train", "lr_scheduler", "linear"):
        return ""
    factors = cast("Tree", leaf.siblings.get("lr_scheduler_params") or {})
    if factors.get("start_factor") == 1 and factors.get("end_factor") == 0:
        return ""
    return (
        "AI-Toolkit's linear rises from a third of the rate: add lr_scheduler_params "
        "{start_factor: 1, end_factor: 0} for a falling one"
    )


_LONGEST_KEY = 64


def _nearest(leaf: Leaf) -> str:
    """Formats the note of an unknown key, with the nearest known one."""
    key = leaf.key[:_LONGEST_KEY]
    close = difflib.get_close_matches(key, list(SECTIONS.get(leaf.section, {})), n=1, cutoff=0.6)
    if close:
        known = f"{leaf.section}.{close[0]}".lstrip(".")
        return f"AI-Toolkit ignores it silently; did you mean {known}?"
    elsewhere = [name for name, keys in SECTIONS.items() if key in keys]
    if elsewhere:
        return f"AI-Toolkit ignores it here; it belongs into {elsewhere[0] or 'the process'}"
    section_of = {name: section for section, keys in SECTIONS.items() for name in keys}
    close = difflib.get_close_matches(key, list(section_of), n=1, cutoff=0.0)
    known = f"{section_of[close[0]]}.{close[0]}".lstrip(".")
    return f"AI-Toolkit ignores it silently; the nearest known key is {known}"


def leaves(tree: Tree) -> Iterator[Leaf]:
    """Yields every key of a file, in file order.

    Raises:
        BadConfig: a dataset or ``meta`` is not a table.
    """
    for number, (key, value) in enumerate(tree.items(), 1):
        if key == "config":
            for index, (name, part) in enumerate(cast("Tree", value).items(), 1):
                if name == "process":
                    yield from _process_leaves(cast("list[Tree]", part)[0])
                else:
                    section = "top" if name == "name" else "config"
                    yield Leaf(f"config.{shown_key(name, index)}", section, name, part)
        elif key == "meta":
            for index, (name, part) in enumerate(as_table(value or {}, key).items(), 1):
                yield Leaf(f"meta.{shown_key(name, index)}", "top", "meta", part)
        else:
            section = "top" if key in _TOP else "file"
            yield Leaf(shown_key(key, number), section, key, value)


def _process_leaves(process: Tree) -> Iterator[Leaf]:
    for number, (key, value) in enumerate(process.items(), 1):
        if key == "datasets" and isinstance(value, list):
            for index, part in enumerate(cast("list[Any]", value)):
                path = f"{_PROCESS}.datasets.{index}"
                yield from _section(path, "datasets", as_table(part, path))
        elif isinstance(value, dict) and key in SECTIONS:
            yield from _section(f"{_PROCESS}.{key}", key, cast("Tree", value))
        else:
            yield Leaf(f"{_PROCESS}.{shown_key(key, number)}", "", key, value)


def _section(path: str, section: str, tree: Tree) -> Iterator[Leaf]:
    for number, (key, value) in enumerate(tree.items(), 1):
        inner = f"{section}.{key}"
        if isinstance(value, dict) and inner in SECTIONS:
            yield from _section(f"{path}.{key}", inner, cast("Tree", value))
        else:
            yield Leaf(f"{path}.{shown_key(key, number)}", section, key, value, tree)
