"""The options that several commands share, so that they are spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Preset = Annotated[
    str, typer.Option("--preset", metavar="NAME|FILE.toml", help="A packaged preset or your own.")
]
StoreUrl = Annotated[
    str, typer.Option("--store", metavar="URL", help="Where everything is kept: folder or URL.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Changes one setting; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
DatasetName = Annotated[
    str, typer.Argument(metavar="DATASET", help="Path, URL, name or name@version.")
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where the files go.")]

DEFAULT_PRESET = "miniature"
DEFAULT_STORE = "./store"
