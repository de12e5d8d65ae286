# ruff: noqa: INP001 - a script, not a package
"""Writes the reference pages from what they describe: presets, settings, commands (`make docs`).

Each page has a head written by hand; everything behind the mark is generated. `tests/docs` holds
the committed pages against this.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import os
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from iclora import presets
from iclora.cli.app import COMMANDS, make_app
from iclora.presets import base_names, load_config, preset_names, task_names
from schemas.config import Config

HERE = Path(__file__).parent
MARK = "<!-- Generated from here on by docs/generate.py: run `make docs` after a change. -->"
Json = dict[str, Any]


def main() -> None:
    """Rewrites every generated page."""
    for name in PAGES:
        (HERE / name).write_text(page(name), encoding="utf-8")


def page(name: str) -> str:
    """A page as it should be: its own head, and what is generated."""
    head = (HERE / name).read_text(encoding="utf-8").split(MARK)[0]
    return f"{head}{MARK}\n\n{PAGES[name]()}"


def settings() -> str:
    """One table a section of the configuration, from its schema and docstrings."""
    schema = Config.model_json_schema()
    _describe(schema, Config)
    parts: list[str] = []
    for name, field in schema["properties"].items():
        section = _resolved(field, schema)
        if "properties" not in section:
            continue
        rows = list(_rows(section, schema, f"{name}."))
        parts.append(
            f"## {name}\n\n{_text(section['description'])}\n\n"
            f"| key | value | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows)
        )
    return "\n\n".join(parts) + "\n"


def _describe(schema: Json, model: type[BaseModel]) -> None:
    """Puts the docstrings below the settings into their schema."""
    definition = schema["$defs"].get(model.__name__, schema)
    for name, text in _docstrings(model):
        definition["properties"][name]["description"] = text
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            _describe(schema, field.annotation)


def _docstrings(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    body = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(body, ast.ClassDef), "a class statement"
    for field, text in pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            assert isinstance(field.target, ast.Name), "a field"
            yield field.target.id, inspect.cleandoc(ast.literal_eval(text.value))


def _rows(section: Json, schema: Json, above: str) -> Iterator[str]:
    for name, field in section["properties"].items():
        inner = _resolved(field, schema)
        if "properties" in inner:
            yield from _rows(inner, schema, f"{above}{name}.")
        else:
            default = json.dumps(field.get("default"), ensure_ascii=False)
            description = field.get("description") or inner.get("description") or ""
            cells = (f"`{above}{name}`", _kind(inner), f"`{default}`", _text(description))
            yield f"| {' | '.join(cells)} |"


def _resolved(field: Json, schema: Json) -> Json:
    name = field.get("$ref", "").rpartition("/")[2]
    return schema["$defs"][name] if name else field


_WORDS = {"integer": "whole number", "number": "number", "boolean": "true or false"}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _kind(field: Json) -> str:
    """What a key takes, in words."""
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if field.get("type") == "array":
        inside = field.get("items") or {}
        several = field.get("prefixItems")
        return f"{len(several)} numbers" if several else f"list of {_plural(inside)}"
    if field.get("type") == "object":
        values = field["additionalProperties"].get("type", "string")
        return f"table of {'numbers' if values == 'number' else 'texts'}"
    if field.get("type") == "string":
        return "text"
    bounds = [f"{sign} {_short(field[key])}" for key, sign in _BOUNDS.items() if key in field]
    if {"minimum", "maximum"} <= field.keys():
        bounds = [f"from {_short(field['minimum'])} to {_short(field['maximum'])}"]
    steps = [f"a multiple of {field['multipleOf']}"] if "multipleOf" in field else []
    return ", ".join([" ".join([_WORDS[field["type"]], *bounds]), *steps])


def _short(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _plural(field: Json) -> str:
    first, *rest = _kind(field).split(" ")
    words = {"whole": "whole numbers", "number": "numbers", "text": "texts"}
    return " ".join([words[first], *[word for word in rest if word != "number"]])


def _text(docstring: str) -> str:
    """A docstring as one line of Markdown."""
    return " ".join(docstring.split()).replace("``", "`").replace("|", "\\|")


def packaged() -> str:
    """Tables of the presets by kind, then what each changes."""
    tasks, bases = task_names(), base_names()
    rest = [name for name in preset_names() if name not in (*tasks, *bases)]
    tables = [
        "| task | canvas | grid | prefix | markers |\n|---|---|---|---|---|",
        *map(_task_line, tasks),
        "\n| base model | weights | family | steps drawn |\n|---|---|---|---|",
        *map(_base_line, bases),
    ]
    sections = [_section(name) for name in (*tasks, *bases, *rest)]
    return "\n".join(tables) + "\n\n" + "\n".join(sections)


def _task_line(name: str) -> str:
    config = load_config(name)
    layout = config.layout
    markers = " ".join(f"`{marker}`" for marker in layout.markers)
    prefix = f"`{config.caption.prefix}`" if config.caption.prefix else ""
    return (
        f"| [{name}](#{name}) | {layout.width}x{layout.height} | {layout.name} | {prefix} "
        f"| {markers} |"
    )


def _base_line(name: str) -> str:
    config = load_config(name)
    base = config.base
    return f"| [{name}](#{name}) | `{base.model}` | {base.family} | {config.sample.steps} |"


def _section(name: str) -> str:
    """A preset's comment, what it is built on, and the keys that it changes."""
    source = (Path(presets.__file__).parent / f"{name}.toml").read_text(encoding="utf-8")
    comment = [
        line.lstrip("# ")
        for line in takewhile(lambda line: line.startswith("#"), source.splitlines())
    ]
    tree = tomllib.loads(source)
    above = tree.pop("extends", [])
    built = f"\nBuilt on {', '.join(f'[{one}](#{one})' for one in above)}.\n" if above else ""
    body = "\n".join(_changes(tree, ""))
    return f"## {name}\n\n{' '.join(comment)}\n{built}\n```toml\n{body}\n```\n"


def _changes(tree: Json, above: str) -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _changes(value, f"{above}{name}.")
        elif name == "prompts":
            yield f"# {above}{name}: {len(value)} example captions"
        else:
            yield f"{above}{name} = {json.dumps(value, ensure_ascii=False)}"


def commands() -> str:
    """Every command's own help."""
    names = [command.__name__.replace("_", "-") for command in COMMANDS]
    return "\n".join(f"## {name}\n\n```text\n{help_of(name)}\n```\n" for name in names)


def help_of(command: str) -> str:
    """What ``iclora COMMAND --help`` prints on a screen of 80 columns."""
    shown = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(shown):
            make_app()([command, "--help"], prog_name="iclora", standalone_mode=False)
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({} if before is None else {"COLUMNS": before})
    return shown.getvalue().strip()


PAGES: dict[str, Callable[[], str]] = {
    "presets.md": packaged,
    "config.md": settings,
    "commands.md": commands,
}

if __name__ == "__main__":
    main()
