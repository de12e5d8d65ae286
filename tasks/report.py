"""What a person sees of a run in the UI: tables, pictures and links, as artifacts."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image
from prefect import task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from iclora.store import Store
from schemas.adapter import AdapterRef
from schemas.dataset import DatasetManifest, DatasetRef
from schemas.evaluation import ReportRef
from schemas.job import BuildJob, EvaluateJob, TrainJob
from schemas.verdict import Ledger
from tasks.evaluation import read_report
from tasks.events import announce

THUMBNAIL_SIDE = 640
"""Longest side of a picture inside an artifact: artifacts live in the server's database."""


@task(name="show dataset", cache_policy=NO_CACHE)
def show_dataset(dataset: DatasetRef, job: BuildJob) -> None:
    """The ledger, the preview and where the dataset lies."""
    store = Store(job.store)
    folder = f"datasets/{dataset.name}/{dataset.version}"
    manifest = DatasetManifest.from_text(store.read(f"{folder}/manifest.json"))
    create_table_artifact(
        key=f"ledger-{dataset.name}",
        table=ledger_rows(manifest.ledger),
        description=f"What became of every item, {dataset.name}@{dataset.version}",
    )
    create_image_artifact(
        image_url=thumbnail(store.read(f"{folder}/preview.jpg")),
        key=f"preview-{dataset.name}",
        description=f"{dataset.samples} samples at `{store.address(folder)}`",
    )
    announce("dataset.published", dataset.name, version=dataset.version, url=dataset.url)


@task(name="show adapter", cache_policy=NO_CACHE)
def show_adapter(adapter: AdapterRef, job: TrainJob) -> None:
    """Which data it was trained on and where it lies."""
    create_markdown_artifact(
        key=f"adapter-{adapter.name}",
        markdown=(
            f"# {adapter.name}@{adapter.version}\n\n"
            f"| dataset | steps | loss | resumed from |\n|---|---|---|---|\n"
            f"| {job.dataset} | {adapter.steps} | {adapter.loss:.4f} | {adapter.resumed_from} |\n\n"
            f"`{adapter.url}`\n"
        ),
    )
    announce("adapter.trained", adapter.name, version=adapter.version, url=adapter.url)


@task(name="show report", cache_policy=NO_CACHE)
def show_report(report: ReportRef, job: EvaluateJob) -> None:
    """The decision, the scores and the first sheet."""
    found = read_report(report, job.store)
    create_table_artifact(
        key=f"scores-{report.name}",
        table=[{"score": name, **score.to_json()} for name, score in found.scores.items()],
        description=f"{found.adapter}: {found.decision.outcome}. {found.decision.reasons[0]}",
    )
    folder = f"reports/{report.name}/{report.version}"
    for sheet in found.sheets[:1]:
        create_image_artifact(
            image_url=thumbnail(Store(job.store).read(f"{folder}/{sheet}")),
            key=f"sheet-{report.name}",
            description=f"The report is `{report.url}/report.html`",
        )
    promoted = found.decision.outcome == "promoted" and job.promote
    announce(
        "adapter.promoted" if promoted else "adapter.refused",
        report.name,
        adapter=found.adapter,
        reason=found.decision.reasons[0],
    )


def ledger_rows(ledger: Ledger) -> list[dict[str, Any]]:
    """One row a stage, in the order of the stages."""
    return [{"stage": stage, **tally.to_json()} for stage, tally in ledger.items()]


def thumbnail(picture: bytes) -> str:
    """A picture as a small JPEG data URI, which the UI shows without any other server."""
    with Image.open(io.BytesIO(picture)) as opened:
        small = opened.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
