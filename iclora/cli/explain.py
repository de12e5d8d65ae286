"""``iclora explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iclora.cli.console import answer
from iclora.cli.options import AsJson

ToolkitFile = Annotated[Path, typer.Argument(metavar="FILE", help="An AI-Toolkit YAML.")]


def explain(file: ToolkitFile, *, as_json: AsJson = False) -> None:
    """Says what becomes of every key of an AI-Toolkit file."""
    from iclora.training.ai_toolkit import explain as judge

    keys = judge(file)
    width = max((len(path) for path in keys), default=0)
    lines = [f"{path:<{width}}  {key.status:<16}  {key.note}" for path, key in keys.items()]
    report = {path: key.to_json() for path, key in keys.items()}
    answer({"keys": report}, "\n".join(line.rstrip() for line in lines), as_json=as_json)
