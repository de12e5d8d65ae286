"""``iclora review``."""

from __future__ import annotations

from pathlib import Path

from iclora.cli.console import answer
from iclora.cli.options import DEFAULT_STORE, AsJson, DatasetName, Out, StoreUrl
from iclora.cli.settings import open_store

_HERE = Path()


def review(
    dataset: DatasetName,
    store: StoreUrl = DEFAULT_STORE,
    out: Out = _HERE,
    *,
    as_json: AsJson = False,
) -> None:
    """Writes review.html and review.csv for a person."""
    from iclora.dataset import open_dataset
    from iclora.dataset.review import write_review

    written = write_review(open_dataset(open_store(store), dataset), out)
    answer(
        {"page": str(written.page), "table": str(written.table), "samples": written.samples},
        f"look at {written.page}, fill in {written.table}, "
        f"then: iclora build ... --review {written.table}",
        as_json=as_json,
    )
