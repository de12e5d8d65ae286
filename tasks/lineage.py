"""Which report came from which adapter came from which dataset; the self-hosted UI has no assets.

Every run leaves the chain as one page of links and thumbnails, as far as it reaches: a build shows
its dataset, a training also the adapter, an evaluation all three.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prefect.artifacts import create_markdown_artifact

from iclora.dataset.reader import LATEST, open_dataset
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.evaluation import ReportRef
from schemas.store_paths import adapter_path
from tasks.artifacts import artifact_key
from tasks.environment import link, read_line, resolve_store
from tasks.evaluation import read_report
from tasks.pictures import data_uri
from tasks.prefect_defaults import stage_task

log = logging.getLogger("iclora.lineage")

ANSWER = "ANSWER"
"""Beside a report: what a person said of it. A run that ended while it waited has no answer, and
the next one asks again."""


@stage_task(name="is there anything new", task_run_name="is there anything new in {dataset}")
def is_settled(dataset: str, name: str, store: str, *, approve: bool) -> bool:
    """Checks that the latest adapter was trained on this dataset version and has a report.

    With ``approve`` also whether a person has said what a better one waits for.
    """
    from iclora.evaluation import reports_on  # late: a flow is imported sooner
    from iclora.evaluation.promotion import champion_of

    place = Store(resolve_store(store))
    version = read_line(place, adapter_path(name, LATEST))
    if not version:
        return False
    run = RunRecord.from_text(place.read(adapter_path(name, "run.json", version=version)))
    reports = list(reports_on(place, f"{name}@{version}"))
    champion = champion_of(place, name)
    rival = f"{name}@{champion}" if champion else "base"
    awaited = champion != version and any(
        found["decision"]["outcome"] == "promoted"
        and found["against"] == rival
        and not place.exists(f"{folder}/{ANSWER}")
        for folder, found in reports
    )
    return run.dataset == dataset and bool(reports) and not (approve and awaited)


@stage_task(name="say that nothing is new", task_run_name="say that nothing is new")
def say_nothing_new(dataset: str, name: str, store: str) -> str:
    """The outcome of a retraining without new footage."""
    place = Store(resolve_store(store))
    version = read_line(place, adapter_path(name, LATEST))
    sentence = f"Nothing new: {dataset} is unchanged and {name}@{version} has its report."
    show_chain(sentence, store, dataset=dataset, adapter=f"{name}@{version}")
    log.info("%s", sentence)
    return sentence


@stage_task(name="show lineage", task_run_name="show lineage of {adapter}")
def show_outcome(adapter: str, report: ReportRef, store: str) -> str:
    """The whole chain, and what a retraining came to."""
    became = adapter.partition("@")[2] == report.champion
    said = "found better" if report.outcome == "promoted" else "refused"
    sentence = f"{adapter} was {said}; it is {'' if became else 'not '}the champion"
    show_chain(sentence, store, adapter=adapter, report=report)
    log.info("%s", sentence)
    return sentence


def show_chain(
    headline: str,
    store: str,
    *,
    dataset: str = "",
    adapter: str = "",
    report: ReportRef | None = None,
) -> None:
    """Makes the page of a chain.

    Args:
        headline: what the run came to.
        store: where everything is.
        dataset: name@version; empty is the one that the adapter was trained on.
        adapter: name@version, or empty: the chain ends with the dataset.
        report: on the adapter, if there is one.
    """
    from iclora.sampling.adapters import find_stored  # late: a flow is imported sooner

    place = Store(resolve_store(store))
    lines: list[str] = []
    if adapter and (stored := find_stored(place, adapter)):
        run = RunRecord.from_text(place.read(f"{stored.folder}/run.json"))
        dataset = dataset or run.dataset
        lines += _adapter(place, stored.folder, run)
    if report is not None:
        lines += _report(place, report)
    about = [*_dataset(place, dataset), *lines]
    create_markdown_artifact(
        key=artifact_key(f"lineage-{(adapter or dataset).partition('@')[0]}"),
        markdown="\n\n".join([f"# {headline}", *about]) + "\n",
        description=f"Dataset, adapter, report: {headline}",
    )


def _dataset(store: Store, dataset: str) -> Iterator[str]:
    try:
        known = open_dataset(store, dataset)
    except Exception:  # noqa: BLE001 - moved or elsewhere: the rest of the chain is still true
        yield f"## 1. Dataset {dataset}"
        return
    name, version = known.manifest.name, known.manifest.version
    yield f"## 1. Dataset {name}@{version}{' (a preview)' if known.manifest.preview else ''}"
    yield f"{known.manifest.samples} samples; {link(store, known.folder, 'its files')}"
    page = f"pages/{name}/{version}/calibration.html"
    if store.exists(page):
        yield link(store, page, "how its thresholds were calibrated")
    yield link(store, f"{known.folder}/preview.jpg", "the preview in full")
    yield f"![samples]({data_uri(known.store.read(known.path('preview.jpg')))})"


def _adapter(store: Store, folder: str, run: RunRecord) -> Iterator[str]:
    yield f"## 2. Adapter {run.name}@{run.version}"
    yield (
        f"trained on {run.dataset}: {run.steps} steps, loss {run.loss:.4f}, of {run.base}; "
        f"{link(store, folder, 'its files')}"
    )
    sheets = store.listdir(f"{folder}/renders")
    if sheets:
        yield f"![base and adapter]({data_uri(store.read(f'{folder}/renders/{sheets[-1]}'))})"


def _report(store: Store, report: ReportRef) -> Iterator[str]:
    folder = report.path
    found = read_report(report, store.url)
    yield f"## 3. Report: {report.outcome}"
    yield f"against {found.against}: {found.decision.reasons[0]}"
    yield link(store, f"{folder}/report.html", "the report")
    champion = f"{report.name}@{report.champion}" if report.champion else "none"
    yield f"the champion after it: {champion}"
    if found.sheets:
        yield f"![renders]({data_uri(store.read(f'{folder}/{found.sheets[0]}'))})"
