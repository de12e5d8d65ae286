"""Evaluation of an adapter's renders against the base, the champion, and controls.

Every score can be gamed: consistency by repeating one image, adherence by memorizing the prompts,
quality by copying the training set. Each score is therefore reported with a counter-score, on
prompts excluded from training, with confidence intervals, and with controls that must fail. The
decision is a pure function (``decide``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

from iclora.dataset.reader import Dataset, open_dataset
from iclora.errors import BadInput
from iclora.evaluation.plan import EvaluationPlan, make_evaluation_plan, validate_promotion
from iclora.evaluation.promotion import champion_of, pin_rule
from iclora.evaluation.promotion import promote as make_champion
from iclora.evaluation.prompts import (
    PromptSet,
    choose_prompts,
    load_training_embeddings,
    training_canvases,
)
from iclora.evaluation.renders import render_arm
from iclora.evaluation.report import read_losses, write_report
from iclora.evaluation.report_images import ReportData
from iclora.evaluation.reports import report_folder, reports_on
from iclora.evaluation.results import EvaluationInputs, run_metrics
from iclora.evaluation.scorers import Scorers, load_scorers
from iclora.models.locate import locate
from iclora.store import MANIFEST, Store
from schemas.base import digest_of
from schemas.config import Config
from schemas.evaluation import EvaluationReport, ReportManifest, ReportRef

__all__ = ["evaluate_adapter", "read_report", "reports_on"]

log = logging.getLogger(__name__)

VERSION = 4
"""Version of the measurements and the decision; incremented when the same images give new
figures."""

ProgressCallback = Callable[[str, int, int], None]
"""Progress callback: current step, items done, total items."""


def evaluate_adapter(
    store: Store,
    adapter: str,
    config: Config | None = None,
    *,
    against: str = "",
    dataset: str = "",
    promote: bool = False,
    repin: bool = False,
    progress: ProgressCallback = lambda _what, _done, _of: None,
) -> ReportRef:
    """Renders, measures, decides, and reports; completed renders and measurements are reused.

    Args:
        store: store of adapters, datasets and reports.
        adapter: name, name@version, file, folder or hub id.
        config: ``sample`` and ``evaluate`` sections; None uses the rule's. A report with settings
            that differ from the rule cannot promote the adapter.
        against: an adapter or ``base``; empty is the champion, or the base when there is none.
        dataset: source of the val sets for comparison; empty is the adapter's training dataset.
        promote: moves CHAMPION if the decision is positive and refers to the current champion.
        repin: makes the settings of this evaluation the rule of the adapter's name; without a
            configuration, those of the adapter's run.
        progress: callback after every batch.

    Returns:
        The reference to the report.

    Raises:
        BadInput: adapter, dataset or prompts cannot be used; promotion is impossible, or another
            adapter became champion in the meantime (the report is kept).
        BadConfig: promotion was requested with settings that differ from the rule's.
        MissingModel: base or CLIP are not on this machine.
    """
    plan = make_evaluation_plan(
        store, adapter, config, against=against, dataset=dataset, repin=repin
    )
    if promote:
        validate_promotion(store, plan)
    data = _load_data(store, plan)
    if repin and plan.rule is not None:
        pin_rule(store, plan.name, plan.rule)
    manifest = _report_of(store, plan, data, progress)
    if promote and manifest.outcome == "promoted" and plan.stored is not None:
        make_champion(store, plan.name, plan.stored.version, report=manifest.version)
    return ReportRef(
        name=manifest.name,
        version=manifest.version,
        url=store.address(report_folder(manifest.name, manifest.version)),
        outcome=manifest.outcome,
        champion=champion_of(store, plan.name),
    )


def read_report(store: Store, ref: ReportRef) -> EvaluationReport:
    """Reads a report from the store."""
    return EvaluationReport.from_text(
        store.read(f"{report_folder(ref.name, ref.version)}/report.json")
    )


class _EvaluationData(NamedTuple):
    """Datasets, prompts, and scorers shared by all arms."""

    data: Dataset
    trained: Dataset | None
    """Training dataset of the adapter; None if it no longer exists."""

    prompts: PromptSet
    scorers: Scorers


def _report_of(
    store: Store, plan: EvaluationPlan, ground: _EvaluationData, progress: ProgressCallback
) -> ReportManifest:
    version = _version(plan, ground)
    place = report_folder(plan.name, version)
    if not store.exists(f"{place}/{MANIFEST}"):
        data = _run_evaluation(store, plan, ground, progress)
        with store.atomic_folder(place) as folder:
            manifest = write_report(folder, version, data)
            (folder / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
        log.info("%s: %s", plan.adapter.label, data.results.decision.reasons[0])
    return ReportManifest.from_text(store.read(f"{place}/{MANIFEST}"))


def _load_data(store: Store, plan: EvaluationPlan) -> _EvaluationData:
    data = open_dataset(store, plan.dataset)
    trained: Dataset | None = data
    if plan.trained_on != plan.dataset:
        try:
            trained = open_dataset(store, plan.trained_on)
        except BadInput as error:
            log.warning("memorisation cannot be measured: %s", error)
            trained = None
    prompts = choose_prompts(data, plan.config, trained)
    return _EvaluationData(data, trained, prompts, load_scorers(plan.config))


def _version(plan: EvaluationPlan, data: _EvaluationData) -> str:
    """Computes the digest of everything that can change the report."""
    config = plan.config
    arms = [
        [
            arm.name,
            [[use.content, use.weight] for use in arm.adapters],
            locate((arm.base or config.base).model).revision,
        ]
        for arm in plan.arms
    ]
    parts = [config.evaluate, config.sample, config.base, config.layout, config.caption]
    return digest_of(
        [
            VERSION,
            arms,
            data.data.manifest.version,
            data.trained.manifest.version if data.trained else "",
            data.scorers.labels(),
            plan.overrides,
            [part.to_json() for part in parts],
        ]
    )


def _run_evaluation(
    store: Store, plan: EvaluationPlan, data: _EvaluationData, progress: ProgressCallback
) -> ReportData:
    """Renders and measures all arms."""
    prompts, scorers = data.prompts, data.scorers
    renders = {s.name: render_arm(store, plan, s, prompts, progress) for s in plan.arms}
    progress("measure", 0, 1)
    training = load_training_embeddings(store, data.trained, plan.config.layout, scorers.clip)
    results = run_metrics(plan, EvaluationInputs(renders, prompts, training), scorers)
    progress("measure", 1, 1)
    keys = [key for _, _, _, key in results.nearest]
    return ReportData(
        plan=plan,
        prompts=prompts,
        renders=renders,
        results=results,
        scorers=scorers,
        training=training_canvases(data.trained, keys, plan.config.layout),
        losses=_losses(store, plan),
    )


def _losses(store: Store, plan: EvaluationPlan) -> list[tuple[int, float]]:
    place = f"{plan.stored.folder}/metrics.jsonl" if plan.stored else ""
    return read_losses(store.read(place)) if place and store.exists(place) else []
