"""``iclora lint-captions``."""

from __future__ import annotations

from typing import Annotated

import typer

from iclora.cli.console import answer
from iclora.cli.options import (
    DEFAULT_STORE,
    AsJson,
    Base,
    Overrides,
    Preset,
    StoreUrl,
    Task,
)
from iclora.cli.settings import config_from, open_store, with_task

Captions = Annotated[
    str, typer.Argument(metavar="PATH", help="Folder of .txt files, text file, or dataset.")
]


def lint_captions(
    path: Captions,
    task: Task = "",
    preset: Preset = "",
    base: Base = "",
    overrides: Overrides = None,
    store: StoreUrl = DEFAULT_STORE,
    *,
    as_json: AsJson = False,
) -> int:
    """Judges captions by their task's rules."""
    from iclora.dataset.lint_path import lint_path

    config = with_task(config_from(preset, base, overrides), task)
    results = lint_path(path, config.layout, config.caption, store=open_store(store))
    broken = {name: faults for name, faults in results.items() if faults}
    lines = [
        f"{name}: {fault.rule}: {fault.sentence}"
        for name, faults in broken.items()
        for fault in faults
    ]
    lines.append(f"{len(results)} captions, {len(broken)} broken")
    rules = {name: [fault.rule for fault in faults] for name, faults in broken.items()}
    answer({"captions": len(results), "broken": rules}, "\n".join(lines), as_json=as_json)
    return 1 if broken else 0
