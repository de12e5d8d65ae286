"""``iclora export-ai-toolkit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iclora.cli.console import answer
from iclora.cli.options import DEFAULT_STORE, AsJson, Base, DatasetName, Overrides, Preset, StoreUrl
from iclora.cli.settings import config_from, open_store

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="New or empty.")]

_PRESET, _BASE = "movie-shots", "flux1-dev"
"""AI-Toolkit trains real bases; the miniature is none of its."""


def export_ai_toolkit(
    dataset: DatasetName,
    folder: Folder,
    *,
    preset: Preset = "",
    base: Base = "",
    overrides: Overrides = None,
    store: StoreUrl = DEFAULT_STORE,
    as_json: AsJson = False,
) -> None:
    """Writes a folder and a YAML that AI-Toolkit runs."""
    from iclora.dataset import open_dataset
    from iclora.training.ai_toolkit import export_ai_toolkit as export

    opened = open_dataset(open_store(store), dataset)
    if not (preset or base):
        preset, base = _PRESET, _BASE
    file = export(opened, folder, config_from(preset, base, overrides))
    samples = opened.manifest.splits.get("train", 0)
    answer(
        {"folder": str(folder), "config": str(file), "samples": samples},
        f"{samples} samples; in {folder}: python run.py {file.name}",
        as_json=as_json,
    )
