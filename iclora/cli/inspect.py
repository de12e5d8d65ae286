"""``iclora inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iclora.cli.console import answer, printable
from iclora.cli.options import DEFAULT_STORE, AsJson, StoreUrl
from iclora.cli.settings import open_store
from iclora.errors import BadInput
from schemas.store_paths import dataset_path, report_path

if TYPE_CHECKING:
    from iclora.store import Store

Thing = Annotated[
    str, typer.Argument(metavar="PATH", help="Dataset, adapter or report: a path or a name.")
]


_Description = tuple[dict[str, Any], list[str]]
"""Description of an artifact, for machines and for people."""


def inspect(path: Thing, store: StoreUrl = DEFAULT_STORE, *, as_json: AsJson = False) -> None:
    """Shows a dataset, an adapter or a report."""
    opened = open_store(store)
    descriptions = {
        kind: description
        for kind, describe in (("dataset", _dataset), ("adapter", _adapter), ("report", _report))
        if (description := describe(opened, path))
    }
    if not descriptions:
        raise BadInput(
            f"{path} is no dataset, adapter or report: neither a folder of one, nor a name in "
            f"{opened.url}"
        )
    text = "\n\n".join("\n".join(lines) for _, lines in descriptions.values())
    answer({kind: value for kind, (value, _) in descriptions.items()}, text, as_json=as_json)


def _dataset(store: Store, path: str) -> _Description | None:
    from iclora.dataset import open_dataset
    from iclora.dataset.dataset_card import ledger_table
    from iclora.pipeline.ledger import in_order

    name = path.partition("@")[0]
    is_folder = any((Path(path) / file).is_file() for file in ("manifest.json", "LATEST"))
    is_run = (Path(path) / "run.json").is_file() or (Path(path) / "report.json").is_file()
    if is_run or not (is_folder or "://" in path or store.exists(dataset_path(name))):
        return None
    manifest = open_dataset(store, path).manifest
    layout = manifest.config.layout
    counts = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    lines = [
        f"dataset {manifest.name}@{manifest.version}{' (a preview)' if manifest.preview else ''}",
        (
            f"{manifest.samples} samples ({counts}) in {len(manifest.shards)} shards, "
            f"{layout.name} of {layout.panel_width}x{layout.panel_height}"
        ),
        *(f"{role}: {model}" for role, model in manifest.models.items()),
        *(f"{s.split}: {s.samples} of {s.name} ({s.rights.licence})" for s in manifest.sources),
    ]
    lines = [*map(printable, lines), ledger_table(in_order(manifest.ledger))]
    return manifest.to_json(), lines


def _adapter(store: Store, path: str) -> _Description | None:
    from iclora.sampling.adapters import find_stored
    from schemas.adapter import RunRecord

    file = Path(path) / "run.json"
    if file.is_file():
        text = file.read_bytes()
    elif not Path(path).exists() and (stored := find_stored(store, path)):
        text = store.read(f"{stored.folder}/run.json")
    else:
        return None
    record = RunRecord.from_text(text)
    lines = [
        f"adapter {record.name}@{record.version}{' (a preview)' if record.preview else ''}",
        f"of {record.base}, rank {record.config.train.lora.rank}, on {record.dataset}",
        f"{record.steps} steps in {record.seconds:.0f} s, loss {record.loss:.4f}",
        *(f"validation {name}: {value:.4f}" for name, value in record.validation.items()),
    ]
    return record.to_json(), lines


def _report(store: Store, path: str) -> _Description | None:
    from schemas.evaluation import EvaluationReport

    file = Path(path) / "report.json"
    stored = report_path(path.replace("@", "/"), "report.json")
    if file.is_file():
        text = file.read_bytes()
    elif store.exists(stored):
        text = store.read(stored)
    else:
        return None
    report = EvaluationReport.from_text(text)
    lines = [
        f"report on {report.adapter} against {report.against}, prompts of {report.dataset}",
        f"{report.decision.outcome}: {'; '.join(report.decision.reasons)}",
        *(
            f"{name}: {s.value:.4f} ({s.low:.4f} to {s.high:.4f})"
            for name, s in report.scores.items()
        ),
    ]
    return report.to_json(), lines
