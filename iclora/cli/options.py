"""Options that several commands share, spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Preset = Annotated[
    str,
    typer.Option("--preset", metavar="NAME|FILE", help="Task or whole preset, or your own TOML."),
]
Base = Annotated[
    str,
    typer.Option("--base", metavar="NAME|FILE", help="Preset of the base model, under the task."),
]
StoreUrl = Annotated[
    str, typer.Option("--store", metavar="URL", help="Where everything is kept: folder or URL.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Changes one setting; repeatable."),
]
Task = Annotated[
    str, typer.Option("--task", metavar="PRESET", help="Layout and caption format of this task.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
DatasetName = Annotated[
    str, typer.Argument(metavar="DATASET", help="Path, URL, name or name@version.")
]
AdapterName = Annotated[
    str, typer.Argument(metavar="ADAPTER", help="Path, name, name@version or name@champion.")
]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Of what is made.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the files go.")]

DEFAULT_STORE = "./store"
