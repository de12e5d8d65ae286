"""Evaluation and promotion of a store's adapters.

This module imports nothing heavy, which keeps the command line and the flows fast.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from iclora.errors import BadInput
from iclora.store import MANIFEST, Store
from schemas.adapter import RunRecord
from schemas.config import Config
from schemas.evaluation import EvaluationReport, ReportManifest, ReportRef
from schemas.store_paths import report_path

if TYPE_CHECKING:
    from iclora.sampling.adapters import StoredAdapter

log = logging.getLogger(__name__)


def evaluate_adapter(
    store: Store,
    adapter: str,
    config: Config | None = None,
    *,
    against: str = "",
    dataset: str = "",
    promote: bool = False,
    repin: bool = False,
    progress: Callable[[str, int, int], None] = lambda _step, _done, _total: None,
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
        progress: callback after every batch: current step, items done, total items.

    Returns:
        The reference to the report.

    Raises:
        BadInput: adapter, dataset or prompts cannot be used; promotion is impossible, or another
            adapter became champion in the meantime (the report is kept).
        BadConfig: promotion was requested with settings that differ from the rule's.
        MissingModel: base or CLIP are not on this machine.
    """
    from iclora.evaluation import promotion
    from iclora.evaluation.plan import make_evaluation_plan, validate_promotion
    from iclora.evaluation.prompts import choose_prompts
    from iclora.evaluation.report import write_report
    from iclora.evaluation.run import open_datasets, render_and_measure, report_version
    from iclora.evaluation.scorers import load_scorers

    plan = make_evaluation_plan(
        store, adapter, config, against=against, dataset=dataset, repin=repin
    )
    if promote:
        validate_promotion(store, plan)
    settings = plan.config
    val, trained = open_datasets(store, plan)
    prompts = choose_prompts(
        val, trained, settings.layout, settings.caption, settings.evaluate, settings.sample.prompts
    )
    scorers = load_scorers(settings.evaluate, settings.base)
    if repin and plan.rule is not None:
        promotion.pin_rule(store, plan.name, plan.rule)
    version = report_version(plan, val, trained, scorers)
    path = report_path(plan.name, version=version)
    if not store.exists(f"{path}/{MANIFEST}"):
        report = render_and_measure(store, plan, trained, prompts, scorers, progress)
        with store.atomic_folder(path) as folder:
            manifest = write_report(folder, version, report)
            (folder / MANIFEST).write_text(manifest.to_text(), encoding="utf-8")
        log.info("%s: %s", plan.adapter.label, report.results.decision.reasons[0])
    manifest = ReportManifest.from_text(store.read(f"{path}/{MANIFEST}"))
    if promote and manifest.outcome == "promoted" and plan.stored is not None:
        promotion.promote(store, plan.name, plan.stored.version, report=version)
    return ReportRef(
        name=plan.name,
        version=version,
        url=store.address(path),
        outcome=manifest.outcome,
        champion=promotion.champion_of(store, plan.name),
    )


def evaluation_config(store: Store, adapter: str, *, repin: bool = False) -> Config:
    """Returns the configuration that decides about an adapter.

    Args:
        store: store of the adapter.
        adapter: ``name``, ``name@version`` or ``name@champion``.
        repin: takes the settings of the adapter's own run in place of its name's rule.

    Raises:
        BadInput: the store has no such adapter.
    """
    from iclora.evaluation.promotion import champion_of
    from iclora.evaluation.rule import rule_of, with_rule

    stored = _find(store, adapter)
    run = RunRecord.from_text(store.read(f"{stored.folder}/run.json"))
    if repin:
        return run.config
    return with_rule(run.config, rule_of(store, stored.name, champion_of(store, stored.name), run))


def promote_adapter(store: Store, adapter: str, *, force: bool = False) -> str:
    """Makes an adapter the champion, if a report promotes it over the current one.

    Args:
        store: store of the adapter.
        adapter: ``name``, ``name@version`` or ``name@champion``.
        force: ignores the reports.

    Returns:
        The champion's version.

    Raises:
        BadInput: the store has no such adapter, or no report promotes it; the message says what to
            evaluate.
    """
    from iclora.evaluation.promotion import promote

    stored = _find(store, adapter)
    return promote(store, stored.name, stored.version, force=force)


def read_report(store: Store, ref: ReportRef) -> EvaluationReport:
    """Reads a report from the store."""
    return EvaluationReport.from_text(store.read(f"{ref.path}/report.json"))


def _find(store: Store, adapter: str) -> StoredAdapter:
    from iclora.sampling.adapters import find_stored

    stored = find_stored(store, adapter)
    if stored is None:
        raise BadInput(f"no adapter {adapter!r} in {store.url}; `iclora train` makes one")
    return stored
