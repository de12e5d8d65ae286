"""``iclora sample``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iclora.cli.console import answer, note_miniature, note_progress
from iclora.cli.options import (
    DEFAULT_STORE,
    AdapterName,
    AsJson,
    Base,
    Out,
    Overrides,
    Preset,
    StoreUrl,
    Task,
)
from iclora.cli.settings import config_from, config_over, open_store, with_task
from iclora.errors import BadInput

if TYPE_CHECKING:
    from iclora.store import Store
    from schemas.config import Config

BASE = "base"
"""Name of the base model without an adapter, in place of an adapter's."""

Captions = Annotated[list[str] | None, typer.Argument(metavar="CAPTION", help="One line each.")]
CaptionFile = Annotated[
    Path | None, typer.Option("--captions", metavar="FILE", help="One caption a line.")
]
More = Annotated[
    list[str] | None,
    typer.Option("--adapter", metavar="A[:WEIGHT]", help="Worn as well; repeatable."),
]
Panels = Annotated[
    list[str] | None,
    typer.Option("--panel", metavar="I=IMAGE", help="A panel that is given; repeatable."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of the first render.", min=0)]
Count = Annotated[int | None, typer.Option("--count", help="Renders a caption.", min=1)]

_RENDERS = Path("renders")


def sample(  # noqa: PLR0913 - an option is a parameter
    adapter: AdapterName,
    captions: Captions = None,
    *,
    file: CaptionFile = None,
    task: Task = "",
    adapters: More = None,
    panels: Panels = None,
    seed: Seed = None,
    count: Count = None,
    preset: Preset = "",
    base: Base = "",
    overrides: Overrides = None,
    store: StoreUrl = DEFAULT_STORE,
    out: Out = _RENDERS,
    as_json: AsJson = False,
) -> None:
    """Draws sets with an adapter (or with `base` alone); given panels are kept."""
    opened = open_store(store)
    drawn = {"sample.seed": seed, "sample.count": count}
    chosen = [f"{key}={value}" for key, value in drawn.items() if value is not None]
    config = _config(opened, adapter, (preset, base), task, [*(overrides or ()), *chosen])
    note_miniature(config, base=True)
    from iclora.sampling import sample_sets
    from iclora.sampling.adapters import locate_adapter
    from iclora.sampling.caption_input import read_captions
    from iclora.sampling.given_panels import open_panels

    lines = [*(captions or ()), *(read_captions(file) if file else ())] or _examples(task)
    if not lines:
        raise BadInput(
            "give a CAPTION, a file of them with --captions, or a --task to draw its own"
        )
    records = sample_sets(
        lines,
        config,
        out,
        given=open_panels(_panel_files(panels or []), config.layout, config.ingest.max_pixels),
        adapters=[
            locate_adapter(opened, text) for text in (adapter, *(adapters or ())) if text != BASE
        ],
        progress=note_progress,
    )
    sets = [
        {
            "canvas": str(out / record.canvas),
            "panels": [str(out / panel) for panel in record.panels],
            "caption": record.caption,
            "seed": record.seed,
        }
        for record in records
    ]
    answer({"sets": sets}, f"{len(sets)} sets in {out}", as_json=as_json)


def _config(
    store: Store, adapter: str, presets: tuple[str, str], task: str, overrides: list[str]
) -> Config:
    """The preset and base that were asked for, else what the adapter was trained with."""
    from iclora.presets import require_preset

    config = None if any(presets) or adapter == BASE else _of_adapter(store, adapter)
    if config is None:
        require_preset(*presets)
        config = config_from(*presets, ())
    return config_over(with_task(config, task), overrides)


def _examples(task: str) -> list[str]:
    """The example captions of a task's preset."""
    return list(config_from(task, "", ()).sample.prompts) if task else []


def _of_adapter(store: Store, adapter: str) -> Config | None:
    from iclora.sampling.adapters import find_stored
    from schemas.adapter import RunRecord

    record = Path(adapter) / "run.json"
    if record.is_file():
        return RunRecord.from_text(record.read_bytes()).config
    stored = None if Path(adapter).exists() else find_stored(store, adapter)
    if stored is None:
        return None
    return RunRecord.from_text(store.read(f"{stored.folder}/run.json")).config


def _panel_files(panels: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for text in panels:
        name, equals, file = text.partition("=")
        if not equals or not file:
            raise BadInput(f"--panel takes I=IMAGE, not {text!r}")
        if name in files:
            raise BadInput(f"panel {name} is given twice")
        files[name] = Path(file)
    return files
