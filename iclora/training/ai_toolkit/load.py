"""Loader of AI-Toolkit files that reproduces the quirks of the upstream loader.

The size of the tree is bounded, because YAML anchors can expand a few lines into a huge or infinite
tree.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, cast

import yaml

from iclora.errors import BadConfig
from iclora.training.ai_toolkit.shown import shown_value

Tree = dict[str, Any]

JOBS = ("extension", "train")
PROCESSES = ("sd_trainer", "ui_trainer", "diffusion_trainer")
"""Process types that run the same trainer."""

_LARGEST_FILE = 1 << 20
_MOST_VALUES = 20_000
_DEEPEST = 32

_QUOTED = re.compile(r"'[^']{2,}'")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_FLOAT = re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.[\d_]+)(?:[eE][-+]?\d+)?$")
_INTEGER = re.compile(r"^[-+]?\d[\d_]*$")


class _Loader(yaml.SafeLoader):
    """PyYAML safe loader that parses ``1e-4`` as a number, as in YAML 1.2."""


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float | int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text) if _INTEGER.match(text) else float(text)


_Loader.add_implicit_resolver("!number", _FLOAT, list("-+0123456789."))
_Loader.add_constructor("!number", _number)


def load_tree(path: Path) -> Tree:
    """Reads YAML or JSON and substitutes ``${VARIABLE}`` and ``[name]`` as AI-Toolkit does.

    Raises:
        BadConfig: the file is unreadable, describes an unsupported kind of job, or uses an unset
            variable.
    """
    if not path.is_file():
        raise BadConfig(f"{path} does not exist")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise BadConfig(f"{path} is larger than any AI-Toolkit file")
        text = _VARIABLE.sub(_environment, path.read_bytes().decode("utf-8"))
        tree = json.loads(text) if path.suffix == ".json" else _parse(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # JSON, UTF-8, numbers, depth
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise BadConfig(f"{path} is not {kind}: {_one_line(error)}") from error
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}") from error
    _refuse_bombs(tree, path)
    _refuse_other_jobs(tree, path)
    return cast("Tree", _with_name(tree, str(tree["config"].get("name", ""))))


def as_table(value: Any, path: str) -> Tree:
    """Narrows a value to a table.

    Raises:
        BadConfig: the value is not a table.
    """
    if not isinstance(value, dict):
        raise BadConfig(f"{path} is a table, not {shown_value(value)}")
    return cast("Tree", value)


def _one_line(error: yaml.YAMLError | ValueError | RecursionError) -> str:
    """Formats an error as one line, without the file content that YAML errors quote."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        problem = _QUOTED.sub("something", error.problem or "")
        return f"{problem}, line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(str(error).split())


def _parse(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _environment(match: re.Match[str]) -> str:
    value = os.environ.get(match[1])
    if value is None:
        raise BadConfig(f"the file uses ${{{match[1]}}}, which is not set in the environment")
    return value


def _refuse_bombs(tree: Any, path: Path) -> None:
    """Rejects oversized trees and non-string keys.

    Raises:
        BadConfig: the tree is too deep, too large, or infinite, or has a non-string key.
    """
    waiting: list[tuple[Any, int]] = [(tree, 0)]
    for _ in range(_MOST_VALUES):
        if not waiting:
            return
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            break
        if isinstance(value, dict):
            table = cast("dict[Any, Any]", value)
            if odd := [key for key in table if not isinstance(key, str)]:
                raise BadConfig(f"{path}: keys are texts, not {shown_value(odd[0])}")
            waiting += [(item, depth + 1) for item in table.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in cast("list[Any]", value)]
    raise BadConfig(f"{path} has values too deep in each other, or too many of them")


def _refuse_other_jobs(tree: Any, path: Path) -> None:
    if not isinstance(tree, dict) or not isinstance(cast("Tree", tree).get("config"), dict):
        raise BadConfig(f"{path} is not an AI-Toolkit file: it has no config")
    tree = cast("Tree", tree)
    if tree.get("job", "extension") not in JOBS:
        job = shown_value(tree["job"])
        raise BadConfig(f"{path}: job {job} does not train; known are {', '.join(JOBS)}")
    value = tree["config"].get("process")
    processes = cast("list[Any]", value) if isinstance(value, list) else []
    if len(processes) != 1 or not isinstance(processes[0], dict):
        raise BadConfig(f"{path}: config.process must be a list of one process")
    kind = cast("Tree", processes[0]).get("type")
    if kind not in PROCESSES:
        raise BadConfig(
            f"{path}: process type {shown_value(kind)} is not read; known are "
            f"{', '.join(PROCESSES)}"
        )


def _with_name(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return value.replace("[name]", name)
    if isinstance(value, list):
        return [_with_name(part, name) for part in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _with_name(part, name) for key, part in cast("Tree", value).items()}
    return value
