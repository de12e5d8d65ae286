"""Lineage: one page of links and thumbnails from dataset over adapter to report.

The self-hosted UI has no assets, so every run leaves the page, as far as its chain reaches.
"""

from __future__ import annotations

import logging

from prefect.artifacts import create_markdown_artifact

from iclora.dataset.reader import LATEST, open_dataset
from iclora.evaluate import read_report
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.evaluation import ReportRef
from schemas.store_paths import adapter_path
from tasks.artifacts import artifact_key, data_uri
from tasks.environment import link, read_line, resolve_store
from tasks.prefect_defaults import stage_task

log = logging.getLogger("iclora.lineage")

ANSWER = "ANSWER"
"""File beside a report with a person's answer. A run that ended while it waited leaves none, and
the next one asks again."""


@stage_task(name="is there anything new", task_run_name="is there anything new in {dataset}")
def is_settled(dataset: str, name: str, store: str, *, approve: bool) -> bool:
    """Checks that the latest adapter was trained on this dataset version and has a report.

    With ``approve``, a better adapter must also have a person's answer.
    """
    from iclora.evaluation.promotion import champion_of  # late: a flow is imported sooner
    from iclora.evaluation.reports import reports_on

    opened = Store(resolve_store(store))
    version = read_line(opened, adapter_path(name, LATEST))
    if not version:
        return False
    run = RunRecord.from_text(opened.read(adapter_path(name, "run.json", version=version)))
    reports = list(reports_on(opened, f"{name}@{version}"))
    champion = champion_of(opened, name)
    baseline = f"{name}@{champion}" if champion else "base"
    awaits_answer = champion != version and any(
        report["decision"]["outcome"] == "promoted"
        and report["against"] == baseline
        and not opened.exists(f"{folder}/{ANSWER}")
        for folder, report in reports
    )
    return run.dataset == dataset and bool(reports) and not (approve and awaits_answer)


@stage_task(name="say that nothing is new", task_run_name="say that nothing is new")
def say_nothing_new(dataset: str, name: str, store: str) -> str:
    """Shows the outcome of a retraining without new footage."""
    opened = Store(resolve_store(store))
    adapter = f"{name}@{read_line(opened, adapter_path(name, LATEST))}"
    sentence = f"Nothing new: {dataset} is unchanged and {adapter} has its report."
    show_chain(sentence, opened, dataset=dataset, adapter=adapter)
    log.info("%s", sentence)
    return sentence


@stage_task(name="show lineage", task_run_name="show lineage of {adapter}")
def show_outcome(adapter: str, report: ReportRef, store: str) -> str:
    """Shows the whole chain and the outcome of a retraining."""
    outcome = "found better" if report.outcome == "promoted" else "refused"
    negation = "" if adapter.partition("@")[2] == report.champion else "not "
    sentence = f"{adapter} was {outcome}; it is {negation}the champion"
    show_chain(sentence, Store(resolve_store(store)), adapter=adapter, report=report)
    log.info("%s", sentence)
    return sentence


def show_chain(
    headline: str,
    store: Store,
    *,
    dataset: str = "",
    adapter: str = "",
    report: ReportRef | None = None,
) -> None:
    """Makes the page of a chain.

    Args:
        headline: outcome of the run.
        store: store of the chain.
        dataset: name@version; empty is the one that the adapter was trained on.
        adapter: name@version; empty ends the chain with the dataset.
        report: on the adapter, if there is one.
    """
    from iclora.sampling.adapters import find_stored  # late: a flow is imported sooner

    stored = find_stored(store, adapter) if adapter else None
    run = RunRecord.from_text(store.read(f"{stored.folder}/run.json")) if stored else None
    lines = [f"# {headline}", *_dataset_lines(store, dataset or (run.dataset if run else ""))]
    if stored and run:
        lines += _adapter_lines(store, stored.folder, run)
    if report:
        lines += _report_lines(store, report)
    create_markdown_artifact(
        key=artifact_key(f"lineage-{(adapter or dataset).partition('@')[0]}"),
        markdown="\n\n".join(lines) + "\n",
        description=f"Dataset, adapter, report: {headline}",
    )


def _dataset_lines(store: Store, name: str) -> list[str]:
    try:
        dataset = open_dataset(store, name)
    except Exception:  # noqa: BLE001 - moved or elsewhere: the rest of the chain is still true
        return [f"## 1. Dataset {name}"]
    manifest = dataset.manifest
    preview = " (a preview)" if manifest.preview else ""
    page = f"pages/{manifest.name}/{manifest.version}/calibration.html"
    calibration = [link(store, page, "how its thresholds were calibrated")]
    return [
        f"## 1. Dataset {manifest.name}@{manifest.version}{preview}",
        f"{manifest.samples} samples; {link(store, dataset.folder, 'its files')}",
        *(calibration if store.exists(page) else []),
        link(store, f"{dataset.folder}/preview.jpg", "the preview in full"),
        f"![samples]({data_uri(dataset.store.read(dataset.path('preview.jpg')))})",
    ]


def _adapter_lines(store: Store, folder: str, run: RunRecord) -> list[str]:
    files, sheets = link(store, folder, "its files"), store.listdir(f"{folder}/renders")[-1:]
    return [
        f"## 2. Adapter {run.name}@{run.version}",
        f"trained on {run.dataset}: {run.steps} steps, loss {run.loss:.4f}, of {run.base}; {files}",
        *(f"![base and adapter]({data_uri(store.read(f'{folder}/renders/{s}'))})" for s in sheets),
    ]


def _report_lines(store: Store, ref: ReportRef) -> list[str]:
    report = read_report(store, ref)
    champion = f"{ref.name}@{ref.champion}" if ref.champion else "none"
    return [
        f"## 3. Report: {ref.outcome}",
        f"against {report.against}: {report.decision.reasons[0]}",
        link(store, f"{ref.path}/report.html", "the report"),
        f"the champion after it: {champion}",
        *(f"![renders]({data_uri(store.read(f'{ref.path}/{s}'))})" for s in report.sheets[:1]),
    ]
