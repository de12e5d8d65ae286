"""Evaluation: what an adapter draws, measured against the base, the champion and controls.

This is where the project tells the truth about an adapter. Consistency can be had by drawing the
same picture three times, obedience by knowing the prompts by heart, beauty by copying the training
set: so each is measured beside what it can be gamed with, on prompts that were never trained on,
with intervals, and controls that must fail. The decision is a pure rule (``decide``).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from iclora.errors import BadInput
from iclora.evaluation.cards import Material
from iclora.evaluation.contest import Contest, arrange, refuse_hopeless_promotion
from iclora.evaluation.findings import Evidences, find_out
from iclora.evaluation.judges import Judges, load_judges
from iclora.evaluation.promote import champion_of
from iclora.evaluation.promote import promote as make_champion
from iclora.evaluation.renders import draw_side
from iclora.evaluation.report import read_losses, write_report
from iclora.evaluation.suite import Suite, choose_suite, load_gallery, training_canvases
from iclora.models.locate import locate
from iclora.shards.read import Dataset, open_dataset
from iclora.store import MANIFEST, Store
from schemas.base import digest_of
from schemas.config import Config
from schemas.evaluation import EvaluationReport, ReportManifest, ReportRef

log = logging.getLogger(__name__)

VERSION = 3
"""Of everything that is measured and decided; raised when the same pictures give other figures."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


def evaluate_adapter(  # noqa: PLR0913 - what an evaluation is asked, on the command line too
    store: Store,
    adapter: str,
    config: Config | None = None,
    *,
    against: str = "",
    dataset: str = "",
    promote: bool = False,
    progress: Progress = lambda _what, _done, _of: None,
) -> ReportRef:
    """Draws, measures, decides, reports; nothing is drawn or measured twice.

    Args:
        store: where adapters, datasets and reports live.
        adapter: name, name@version, file, folder or hub id.
        config: ``sample`` and ``evaluate`` sections; None takes those of the adapter's run.
        against: an adapter or ``base``; empty is the champion, or the base when there is none.
        dataset: whose val sets are compared with; empty is the one it was trained on.
        promote: move CHAMPION when the decision says so.
        progress: told after every batch.

    Returns:
        The reference to the report.

    Raises:
        BadInput: adapter, dataset or prompts cannot be used, or promotion could not follow.
        MissingModel: base or CLIP are not on this machine.
    """
    contest = arrange(store, adapter, config, against=against, dataset=dataset)
    if promote:
        refuse_hopeless_promotion(store, contest)
    manifest = _report_of(store, contest, progress)
    if promote and manifest.outcome == "promoted" and contest.stored is not None:
        make_champion(store, contest.name, contest.stored.version)
    return ReportRef(
        name=manifest.name,
        version=manifest.version,
        url=store.address(_folder(manifest.name, manifest.version)),
        outcome=manifest.outcome,
        champion=champion_of(store, contest.name),
    )


def read_report(store: Store, ref: ReportRef) -> EvaluationReport:
    """What a report says."""
    return EvaluationReport.from_text(store.read(f"{_folder(ref.name, ref.version)}/report.json"))


def reports_on(store: Store, adapter: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The folders of an adapter's reports and what they say.

    As plain JSON: reports of an earlier version of this code are among them.

    Args:
        store: where reports live.
        adapter: name@version.
    """
    name = adapter.partition("@")[0]
    for folder in (_folder(name, version) for version in store.names(f"reports/{name}")):
        if store.exists(f"{folder}/{MANIFEST}"):  # on an object store, else it is not whole yet
            found = json.loads(store.read(f"{folder}/report.json"))
            if found["adapter"] == adapter:
                yield folder, found


def _folder(name: str, version: str) -> str:
    return f"reports/{name}/{version}"


class _Ground(NamedTuple):
    """What every side of a contest is measured on and by."""

    data: Dataset
    trained: Dataset | None
    """What the adapter was trained on; None if it is no longer there."""

    suite: Suite
    judges: Judges


def _report_of(store: Store, contest: Contest, progress: Progress) -> ReportManifest:
    ground = _settle_ground(store, contest)
    version = _version(contest, ground)
    place = _folder(contest.name, version)
    if not store.exists(f"{place}/{MANIFEST}"):
        material = _gather(store, contest, ground, progress)
        with store.folder(place) as folder:
            manifest = write_report(folder, version, material)
            (folder / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
        log.info("%s: %s", contest.adapter.label, material.findings.decision.reasons[0])
    return ReportManifest.from_text(store.read(f"{place}/{MANIFEST}"))


def _settle_ground(store: Store, contest: Contest) -> _Ground:
    data = open_dataset(store, contest.dataset)
    trained: Dataset | None = data
    if contest.trained_on != contest.dataset:
        try:
            trained = open_dataset(store, contest.trained_on)
        except BadInput as error:
            log.warning("memorisation cannot be measured: %s", error)
            trained = None
    suite = choose_suite(data, contest.config, trained)
    return _Ground(data, trained, suite, load_judges(contest.config))


def _version(contest: Contest, ground: _Ground) -> str:
    """The digest of everything that can change the report."""
    config = contest.config
    sides = [
        [
            side.arm,
            [[use.content, use.weight] for use in side.uses],
            locate((side.base or config.base).model).revision,
        ]
        for side in contest.sides
    ]
    parts = [config.evaluate, config.sample, config.base, config.layout, config.caption]
    return digest_of(
        [
            VERSION,
            sides,
            ground.data.manifest.version,
            ground.trained.manifest.version if ground.trained else "",
            ground.judges.labels(),
            [part.to_json() for part in parts],
        ]
    )


def _gather(store: Store, contest: Contest, ground: _Ground, progress: Progress) -> Material:
    """Draws and measures."""
    suite, judges = ground.suite, ground.judges
    renders = {s.arm: draw_side(store, contest, s, suite, progress) for s in contest.sides}
    progress("measure", 0, 1)
    gallery = load_gallery(store, ground.trained, contest.config.layout, judges.clip)
    findings = find_out(contest, Evidences(renders, suite, gallery), judges)
    progress("measure", 1, 1)
    keys = [key for _, _, _, key in findings.nearest]
    return Material(
        contest=contest,
        suite=suite,
        renders=renders,
        findings=findings,
        judges=judges,
        training=training_canvases(ground.trained, keys, contest.config.layout),
        losses=_losses(store, contest),
    )


def _losses(store: Store, contest: Contest) -> list[tuple[int, float]]:
    place = f"{contest.stored.folder}/metrics.jsonl" if contest.stored else ""
    return read_losses(store.read(place)) if place and store.exists(place) else []
