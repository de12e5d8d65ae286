"""Artifacts and events of a finished run."""

from __future__ import annotations

import logging

from prefect.artifacts import create_image_artifact, create_table_artifact
from prefect.events import emit_event

from iclora.evaluate import read_report
from iclora.pipeline.ledger import in_order
from iclora.store import Store
from schemas.adapter import AdapterRef
from schemas.dataset import DatasetManifest
from schemas.evaluation import ReportRef
from schemas.job import BuildJob, BuildResult, EvaluateJob, TrainJob
from tasks.artifacts import artifact_key, data_uri
from tasks.environment import link
from tasks.lineage import show_chain
from tasks.prefect_defaults import stage_task

log = logging.getLogger("iclora.report")


@stage_task(name="show dataset", task_run_name="show dataset {job.name}")
def show_dataset(result: BuildResult, job: BuildJob) -> None:
    """Shows the ledger, the preview, the calibration, and the outcome in one sentence."""
    dataset, store = result.dataset, Store(job.store)
    label = f"{dataset.name}@{dataset.version}"
    manifest = DatasetManifest.from_text(store.read(f"{dataset.path}/manifest.json"))
    page = f"pages/{dataset.name}/{dataset.version}/calibration.html"
    if not store.exists(page):
        from iclora.filtering import calibration_page  # late: it brings the arrays

        text = calibration_page(store, result.scored, result.thresholds, job.config)
        store.write(page, text.encode())
    create_table_artifact(
        key=artifact_key(f"ledger-{dataset.name}"),
        table=[
            {"stage": stage, **tally.to_json()}
            for stage, tally in in_order(manifest.ledger).items()
        ],
        description=f"What became of every item of {label}",
    )
    files = link(store, dataset.path, "the files")
    create_image_artifact(
        image_url=data_uri(store.read(f"{dataset.path}/preview.jpg")),
        key=artifact_key(f"preview-{dataset.name}"),
        description=f"A look at the dataset: {dataset.samples} samples; {files}",
    )
    if dataset.version == job.latest:
        sentence = f"Nothing new: {label} is unchanged."
    else:
        sentence = f"{label} is new: {dataset.samples} samples."
        announce("dataset.published", dataset.name, dataset=label, store=job.store)
    show_chain(sentence, store, dataset=label)
    log.info("%s", sentence)


@stage_task(name="show adapter", task_run_name="show adapter {adapter.name}")
def show_adapter(adapter: AdapterRef, job: TrainJob) -> None:
    """Shows the adapter's data, settings and location."""
    label = f"{adapter.name}@{adapter.version}"
    show_chain(f"{label} is trained", Store(job.store), adapter=label)
    announce("adapter.trained", adapter.name, adapter=label, store=job.store)


@stage_task(name="show report", task_run_name="show report {report.name}")
def show_report(report: ReportRef, job: EvaluateJob) -> None:
    """Shows the decision, the scores, a sheet and the report's link."""
    store = Store(job.store)
    content = read_report(store, report)
    decision, reason = content.decision.outcome, content.decision.reasons[0]
    headline = f"{content.adapter}: {decision}"
    create_table_artifact(
        key=artifact_key(f"scores-{report.name}"),
        table=[{"score": name, **score.to_json()} for name, score in content.scores.items()],
        description=f"Scores of {headline}. {reason}",
    )
    page = link(store, f"{report.path}/report.html", "The report")
    for sheet in content.sheets[:1]:
        create_image_artifact(
            image_url=data_uri(store.read(f"{report.path}/{sheet}")),
            key=artifact_key(f"renders-{report.name}"),
            description=f"What the adapter draws. {headline}. {page}",
        )
    show_chain(headline, store, dataset=content.dataset, adapter=content.adapter, report=report)
    if decision == "promoted" and job.promote:
        announce("adapter.promoted", report.name, adapter=content.adapter, store=job.store)
    elif decision == "refused":
        announce("adapter.refused", report.name, adapter=content.adapter, reason=reason)


def announce(event: str, name: str, **payload: str) -> None:
    """Emits an event that automations can chain on.

    Args:
        event: ``dataset.published``, ``adapter.trained``, ``adapter.promoted`` or
            ``adapter.refused``.
        name: of the dataset or adapter; the resource is ``dataset.<name>`` or ``adapter.<name>``.
        payload: ``dataset`` or ``adapter`` as ``name@version``, and more.
    """
    kind = event.partition(".")[0]
    emitted = emit_event(
        event=event,
        resource={"prefect.resource.id": f"{kind}.{name}", "prefect.resource.name": name},
        payload={"name": name, **payload},
    )
    if emitted is None:
        log.warning("the event %s of %s was not sent", event, name)
