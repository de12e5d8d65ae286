"""``iclora build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from iclora.cli.console import answer, note_miniature
from iclora.cli.options import (
    DEFAULT_STORE,
    AsJson,
    Base,
    Name,
    Overrides,
    Preset,
    StoreUrl,
)
from iclora.cli.settings import config_from, open_store

Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE", help="Films, folders, archives, URLs, hub ids; any mix."),
]
ReviewFile = Annotated[
    Path | None,
    typer.Option("--review", metavar="FILE", help="The review.csv that `iclora review` wrote."),
]


def build(
    sources: Sources,
    preset: Preset = "",
    base: Base = "",
    name: Name = "",
    store: StoreUrl = DEFAULT_STORE,
    overrides: Overrides = None,
    review: ReviewFile = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Turns sources into a dataset version."""
    from iclora.build import build_dataset
    from iclora.cli.progress import BuildDisplay
    from iclora.dataset import open_dataset
    from iclora.dataset.review import read_review
    from iclora.pipeline.ledger import in_order
    from iclora.presets import require_preset

    require_preset(preset, base)
    config = config_from(preset, base, overrides)
    note_miniature(config)
    choices = read_review(review, config) if review else ()
    with BuildDisplay() as progress:
        opened = open_store(store)
        dataset = build_dataset(
            opened,
            sources,
            config,
            name or config.preset,
            progress,
            reports=progress.reports,
            review=choices,
        )
    manifest = open_dataset(opened, f"{dataset.name}@{dataset.version}").manifest
    progress.show_ledger(manifest.ledger)
    answer(
        {
            "dataset": dataset.name,
            "version": dataset.version,
            "samples": dataset.samples,
            "ledger": {
                stage: total.to_json() for stage, total in in_order(manifest.ledger).items()
            },
            "preview": manifest.preview,
            "splits": manifest.splits,
            "url": dataset.url,
        },
        f"{dataset.name}@{dataset.version}: {dataset.samples} samples in {dataset.url}",
        as_json=as_json,
    )
