"""``iclora inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from iclora.cli.console import answer, printable
from iclora.cli.options import DEFAULT_STORE, AsJson, StoreUrl
from iclora.cli.settings import open_store
from iclora.errors import BadInput
from schemas.store_paths import dataset_path, report_path

if TYPE_CHECKING:
    from iclora.store import Store
    from schemas.adapter import RunRecord
    from schemas.dataset import DatasetManifest

Thing = Annotated[
    str, typer.Argument(metavar="PATH", help="Dataset, adapter or report: a path or a name.")
]


class _Inspected(NamedTuple):
    """Description of an artifact, for machines and for people."""

    kind: str
    value: dict[str, Any]
    lines: list[str]


def inspect(path: Thing, store: StoreUrl = DEFAULT_STORE, *, as_json: AsJson = False) -> None:
    """Shows a dataset, an adapter or a report."""
    opened = open_store(store)
    looks = (_dataset(opened, path), _adapter(opened, path), _report(opened, path))
    found = [thing for thing in looks if thing is not None]
    if not found:
        raise BadInput(
            f"{path} is no dataset, adapter or report: neither a folder of one, nor a name in "
            f"{opened.url}"
        )
    text = "\n\n".join("\n".join(thing.lines) for thing in found)
    answer({thing.kind: thing.value for thing in found}, text, as_json=as_json)


def _dataset(store: Store, path: str) -> _Inspected | None:
    from iclora.dataset import open_dataset

    name = path.partition("@")[0]
    is_folder = any((Path(path) / file).is_file() for file in ("manifest.json", "LATEST"))
    is_run = (Path(path) / "run.json").is_file() or (Path(path) / "report.json").is_file()
    if is_run or not (is_folder or "://" in path or store.exists(dataset_path(name))):
        return None
    known = open_dataset(store, path).manifest
    return _Inspected("dataset", known.to_json(), _dataset_lines(known))


def _dataset_lines(known: DatasetManifest) -> list[str]:
    from iclora.dataset.dataset_card import ledger_table
    from iclora.pipeline.ledger import in_order

    layout = known.config.layout
    counts = ", ".join(f"{count} {split}" for split, count in known.splits.items())
    lines = [
        f"dataset {known.name}@{known.version}{' (a preview)' if known.preview else ''}",
        (
            f"{known.samples} samples ({counts}) in {len(known.shards)} shards, "
            f"{layout.name} of {layout.panel_width}x{layout.panel_height}"
        ),
        *(f"{role}: {model}" for role, model in known.models.items()),
        *(f"{s.split}: {s.samples} of {s.name} ({s.rights.licence})" for s in known.sources),
    ]
    return [*map(printable, lines), ledger_table(in_order(known.ledger))]


def _adapter(store: Store, path: str) -> _Inspected | None:
    from iclora.sampling.adapters import find_stored
    from schemas.adapter import RunRecord

    file = Path(path) / "run.json"
    if file.is_file():
        record = RunRecord.from_text(file.read_bytes())
        return _Inspected("adapter", record.to_json(), _adapter_lines(record))
    stored = None if Path(path).exists() else find_stored(store, path)
    if stored is None:
        return None
    record = RunRecord.from_text(store.read(f"{stored.folder}/run.json"))
    return _Inspected("adapter", record.to_json(), _adapter_lines(record))


def _adapter_lines(record: RunRecord) -> list[str]:
    return [
        f"adapter {record.name}@{record.version}{' (a preview)' if record.preview else ''}",
        f"of {record.base}, rank {record.config.train.lora.rank}, on {record.dataset}",
        f"{record.steps} steps in {record.seconds:.0f} s, loss {record.loss:.4f}",
        *(f"validation {name}: {value:.4f}" for name, value in record.validation.items()),
    ]


def _report(store: Store, path: str) -> _Inspected | None:
    from schemas.evaluation import EvaluationReport

    file = Path(path) / "report.json"
    place = report_path(path.replace("@", "/"), "report.json")
    if file.is_file():
        text = file.read_bytes()
    elif store.exists(place):
        text = store.read(place)
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
    return _Inspected("report", report.to_json(), lines)
