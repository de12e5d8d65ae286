"""Which report came from which adapter came from which dataset."""

from __future__ import annotations

import logging

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from iclora.store import Store
from schemas.adapter import AdapterRef, RunRecord
from schemas.dataset import DatasetRef
from schemas.evaluation import ReportRef
from tasks.report import thumbnail

log = logging.getLogger("iclora.lineage")


@task(name="is there anything new", cache_policy=NO_CACHE)
def is_settled(dataset: str, name: str, store: str) -> bool:
    """Whether the latest adapter was trained on this dataset version and has a report."""
    place = Store(store)
    if not place.exists(f"adapters/{name}/LATEST"):
        return False
    version = place.read(f"adapters/{name}/LATEST").decode().strip()
    run = RunRecord.from_text(place.read(f"adapters/{name}/{version}/run.json"))
    reported = any(
        f'"{name}@{version}"' in place.read(f"reports/{name}/{report}/report.json").decode()
        for report in place.names(f"reports/{name}")
    )
    return run.dataset == dataset and reported


def say_nothing_new(dataset: str) -> str:
    """The outcome of a retraining without new footage."""
    sentence = f"{dataset} is unchanged and its adapter has a report: nothing to train."
    log.info(sentence)
    return sentence


@task(name="show lineage", cache_policy=NO_CACHE)
def show_chain(dataset: DatasetRef, adapter: AdapterRef, report: ReportRef, store: str) -> str:
    """The chain as one page, with the dataset's preview; the self-hosted UI shows no assets."""
    place = Store(store)
    preview = place.read(f"datasets/{dataset.name}/{dataset.version}/preview.jpg")
    sentence = f"{adapter.name}@{adapter.version} was {report.outcome}"
    create_markdown_artifact(
        key=f"lineage-{adapter.name}",
        markdown=(
            f"# {sentence}\n\n"
            "| | version | where |\n|---|---|---|\n"
            f"| dataset | {dataset.name}@{dataset.version} | `{dataset.url}` |\n"
            f"| adapter | {adapter.name}@{adapter.version} | `{adapter.url}` |\n"
            f"| report | {report.name}@{report.version} | `{report.url}/report.html` |\n\n"
            f"![the dataset's preview]({thumbnail(preview)})\n"
        ),
    )
    log.info("%s: %s/report.html", sentence, report.url)
    return sentence
