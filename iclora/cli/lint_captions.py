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

Place = Annotated[
    str, typer.Argument(metavar="PATH", help="Folder of .txt files, text file, or dataset.")
]


def lint_captions(
    path: Place,
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
    found = lint_path(path, config.layout, config.caption, store=open_store(store))
    broken = {place: faults for place, faults in found.items() if faults}
    lines = [
        f"{place}: {fault.rule}: {fault.sentence}"
        for place, faults in broken.items()
        for fault in faults
    ]
    lines.append(f"{len(found)} captions, {len(broken)} broken")
    rules = {place: [fault.rule for fault in faults] for place, faults in broken.items()}
    answer({"captions": len(found), "broken": rules}, "\n".join(lines), as_json=as_json)
    return 1 if broken else 0
