"""Artifacts of a finished run: tables, pictures and links."""

from __future__ import annotations

import logging
from typing import Any

from prefect.artifacts import create_image_artifact, create_table_artifact

from iclora.pipeline.ledger import in_order
from iclora.store import Store
from schemas.adapter import AdapterRef
from schemas.dataset import DatasetManifest
from schemas.evaluation import ReportRef
from schemas.job import BuildJob, BuildResult, EvaluateJob, TrainJob
from schemas.verdict import Ledger
from tasks.artifacts import artifact_key
from tasks.environment import link
from tasks.evaluation import read_report
from tasks.events import announce
from tasks.lineage import show_chain
from tasks.pictures import data_uri
from tasks.prefect_defaults import stage_task

log = logging.getLogger("iclora.report")


@stage_task(name="show dataset", task_run_name="show dataset {job.name}")
def show_dataset(result: BuildResult, job: BuildJob) -> None:
    """Shows the ledger, the preview, the calibration, and the outcome in one sentence."""
    dataset = result.dataset
    store, label = Store(job.store), f"{dataset.name}@{dataset.version}"
    folder = dataset.path
    manifest = DatasetManifest.from_text(store.read(f"{folder}/manifest.json"))
    files = link(store, folder, "the files")
    page = f"pages/{dataset.name}/{dataset.version}/calibration.html"
    if not store.exists(page):
        from iclora.filtering import calibration_page  # late: it brings the arrays

        text = calibration_page(store, result.scored, result.thresholds, job.config)
        store.write(page, text.encode())
    create_table_artifact(
        key=artifact_key(f"ledger-{dataset.name}"),
        table=ledger_rows(in_order(manifest.ledger)),
        description=f"What became of every item of {label}",
    )
    create_image_artifact(
        image_url=data_uri(store.read(f"{folder}/preview.jpg")),
        key=artifact_key(f"preview-{dataset.name}"),
        description=f"A look at the dataset: {dataset.samples} samples; {files}",
    )
    if dataset.version == job.latest:
        sentence = f"Nothing new: {label} is unchanged."
    else:
        sentence = f"{label} is new: {dataset.samples} samples."
        announce("dataset.published", dataset.name, dataset=label, store=job.store)
    show_chain(sentence, job.store, dataset=label)
    log.info("%s", sentence)


@stage_task(name="show adapter", task_run_name="show adapter {adapter.name}")
def show_adapter(adapter: AdapterRef, job: TrainJob) -> None:
    """Shows the adapter's data, settings and location."""
    label = f"{adapter.name}@{adapter.version}"
    show_chain(f"{label} is trained", job.store, adapter=label)
    announce("adapter.trained", adapter.name, adapter=label, store=job.store)


@stage_task(name="show report", task_run_name="show report {report.name}")
def show_report(report: ReportRef, job: EvaluateJob) -> None:
    """The decision, the scores, a sheet and the report's link."""
    store, found = Store(job.store), read_report(report, job.store)
    folder = report.path
    decision, reason = found.decision.outcome, found.decision.reasons[0]
    headline = f"{found.adapter}: {decision}"
    page = link(store, f"{folder}/report.html", "The report")
    create_table_artifact(
        key=artifact_key(f"scores-{report.name}"),
        table=[{"score": name, **score.to_json()} for name, score in found.scores.items()],
        description=f"Scores of {headline}. {reason}",
    )
    for sheet in found.sheets[:1]:
        create_image_artifact(
            image_url=data_uri(store.read(f"{folder}/{sheet}")),
            key=artifact_key(f"renders-{report.name}"),
            description=f"What the adapter draws. {headline}. {page}",
        )
    show_chain(headline, job.store, dataset=found.dataset, adapter=found.adapter, report=report)
    if decision == "promoted" and job.promote:
        announce("adapter.promoted", report.name, adapter=found.adapter, store=job.store)
    elif decision == "refused":
        announce("adapter.refused", report.name, adapter=found.adapter, reason=reason)


def ledger_rows(ledger: Ledger) -> list[dict[str, Any]]:
    """One row a stage, in the order of the stages."""
    return [{"stage": stage, **tally.to_json()} for stage, tally in ledger.items()]
