"""Evaluation of an adapter's renders against the base, the champion, and controls.

Every score can be gamed: consistency by repeating one image, adherence by memorizing the prompts,
quality by copying the training set. Each score is therefore reported with a counter-score, on
prompts excluded from training, with confidence intervals, and with controls that must fail. The
decision is a pure function (``decide``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

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
from iclora.evaluation.reports import reports_on
from iclora.evaluation.results import run_metrics
from iclora.evaluation.scorers import Scorers, load_scorers
from iclora.models.locate import locate
from iclora.store import MANIFEST, Store
from schemas.base import digest_of
from schemas.config import Config
from schemas.evaluation import EvaluationReport, ReportManifest, ReportRef
from schemas.store_paths import report_path

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
    progress: ProgressCallback = lambda _step, _done, _total: None,
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
    data = open_dataset(store, plan.dataset)
    trained = data if plan.trained_on == plan.dataset else _training_dataset(store, plan)
    prompts = choose_prompts(data, plan.config, trained)
    scorers = load_scorers(plan.config)
    if repin and plan.rule is not None:
        pin_rule(store, plan.name, plan.rule)
    version = _version(plan, data, trained, scorers)
    path = report_path(plan.name, version=version)
    if not store.exists(f"{path}/{MANIFEST}"):
        report = _run_evaluation(store, plan, trained, prompts, scorers, progress)
        with store.atomic_folder(path) as folder:
            manifest = write_report(folder, version, report)
            (folder / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
        log.info("%s: %s", plan.adapter.label, report.results.decision.reasons[0])
    manifest = ReportManifest.from_text(store.read(f"{path}/{MANIFEST}"))
    if promote and manifest.outcome == "promoted" and plan.stored is not None:
        make_champion(store, plan.name, plan.stored.version, report=version)
    return ReportRef(
        name=plan.name,
        version=version,
        url=store.address(path),
        outcome=manifest.outcome,
        champion=champion_of(store, plan.name),
    )


def read_report(store: Store, ref: ReportRef) -> EvaluationReport:
    """Reads a report from the store."""
    return EvaluationReport.from_text(store.read(f"{ref.path}/report.json"))


def _training_dataset(store: Store, plan: EvaluationPlan) -> Dataset | None:
    """Opens the training dataset of the adapter; None if it no longer exists."""
    try:
        return open_dataset(store, plan.trained_on)
    except BadInput as error:
        log.warning("memorisation cannot be measured: %s", error)
        return None


def _version(plan: EvaluationPlan, data: Dataset, trained: Dataset | None, scorers: Scorers) -> str:
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
    sections = [config.evaluate, config.sample, config.base, config.layout, config.caption]
    return digest_of(
        [
            VERSION,
            arms,
            data.manifest.version,
            trained.manifest.version if trained else "",
            scorers.labels(),
            plan.overrides,
            [section.to_json() for section in sections],
        ]
    )


def _run_evaluation(
    store: Store,
    plan: EvaluationPlan,
    trained: Dataset | None,
    prompts: PromptSet,
    scorers: Scorers,
    progress: ProgressCallback,
) -> ReportData:
    """Renders and measures all arms."""
    renders = {arm.name: render_arm(store, plan, arm, prompts, progress) for arm in plan.arms}
    progress("measure", 0, 1)
    layout = plan.config.layout
    training = load_training_embeddings(store, trained, layout, scorers.clip)
    results = run_metrics(plan, renders, prompts, training, scorers)
    progress("measure", 1, 1)
    metrics = f"{plan.stored.folder}/metrics.jsonl" if plan.stored else ""
    return ReportData(
        plan=plan,
        prompts=prompts,
        renders=renders,
        results=results,
        scorers=scorers,
        training=training_canvases(trained, [key for *_, key in results.nearest], layout),
        losses=read_losses(store.read(metrics)) if metrics and store.exists(metrics) else [],
    )
