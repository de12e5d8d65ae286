"""``iclora inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iclora.cli.console import answer
from iclora.cli.options import DEFAULT_STORE, AsJson, DatasetName, StoreUrl

if TYPE_CHECKING:
    from schemas.dataset import DatasetManifest


def inspect(
    dataset: DatasetName, store: StoreUrl = DEFAULT_STORE, *, as_json: AsJson = False
) -> None:
    """Says in a screenful what a dataset is."""
    from iclora.shards import open_dataset
    from iclora.shards.card import ledger_table
    from iclora.shards.ledger import in_order
    from iclora.store import Store

    opened = open_dataset(Store(store), dataset)
    known = opened.manifest
    layout = known.config.layout
    size = f"{layout.panel_width}x{layout.panel_height}"
    lines = [
        f"dataset {known.name}@{known.version}{' (a preview)' if known.preview else ''}",
        f"{known.samples} samples ({_counts(known)}), {layout.name} of {size}",
        *(f"{role}: {model}" for role, model in known.models.items()),
        ledger_table(in_order(known.ledger)),
    ]
    answer(known.to_json(), "\n".join(lines), as_json=as_json)


def _counts(known: DatasetManifest) -> str:
    return ", ".join(f"{count} {split}" for split, count in known.splits.items())
