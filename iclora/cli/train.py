"""``iclora train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iclora.cli.console import answer, note_miniature, tell
from iclora.cli.options import (
    DEFAULT_PRESET,
    DEFAULT_STORE,
    AsJson,
    DatasetName,
    Name,
    Overrides,
    Preset,
    StoreUrl,
)
from iclora.cli.settings import config_from, config_over, open_store, read_config

if TYPE_CHECKING:
    from schemas.training import StepReport

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="JSON", help="A resolved configuration, not a preset."),
]
Resume = Annotated[
    str, typer.Option("--resume", metavar="VERSION", help="The run that this must continue.")
]

_TOLD = 20
"""Lines of progress in a run."""


def train(  # noqa: PLR0913 - an option is a parameter
    dataset: DatasetName,
    *,
    preset: Preset = DEFAULT_PRESET,
    config: ConfigFile = None,
    name: Name = "",
    store: StoreUrl = DEFAULT_STORE,
    overrides: Overrides = None,
    resume: Resume = "",
    as_json: AsJson = False,
) -> None:
    """Trains an adapter, or goes on where it was stopped."""
    if config:
        resolved = config_over(read_config(config), overrides)
    else:
        resolved = config_from(preset, overrides)
    note_miniature(resolved, base=True)
    from iclora.shards import open_dataset
    from iclora.training import train_adapter

    there = open_store(store)
    called = name or open_dataset(there, dataset).manifest.name
    made = train_adapter(there, dataset, resolved, called, progress=_tell_step, resume=resume)
    answer(
        {
            "adapter": made.name,
            "version": made.version,
            "steps": made.steps,
            "loss": made.loss,
            "resumed_from": made.resumed_from,
            "url": made.url,
        },
        f"{made.name}@{made.version}: {made.steps} steps, loss {made.loss:.4f}, in {made.url}",
        as_json=as_json,
    )


def _tell_step(report: StepReport) -> None:
    """A line now and then; the first steps' show that it runs."""
    every = max(1, report.steps // _TOLD)
    if report.step == 1 or report.step % every == 0 or report.step == report.steps:
        tell(
            f"step {report.step}/{report.steps}  loss {report.loss:.4f}  "
            f"{report.tokens_per_second:.0f} tokens/s  {report.seconds_left:.0f} s left"
        )
