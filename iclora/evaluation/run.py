"""Steps of an evaluation between its plan and its report."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from iclora.dataset.reader import Dataset, open_dataset
from iclora.errors import BadInput
from iclora.evaluation.plan import EvaluationPlan
from iclora.evaluation.prompts import PromptSet, load_training_embeddings, training_canvases
from iclora.evaluation.renders import render_arm
from iclora.evaluation.report import ReportData, read_losses
from iclora.evaluation.results import run_metrics
from iclora.evaluation.scorers import Scorers
from iclora.models.locate import locate
from iclora.store import Store
from schemas.base import digest_of

if TYPE_CHECKING:
    from iclora.sampling.render import ProgressCallback

log = logging.getLogger(__name__)

VERSION = 4
"""Version of the measurements and the decision; incremented when the same images give new
figures."""


def open_datasets(store: Store, plan: EvaluationPlan) -> tuple[Dataset, Dataset | None]:
    """Opens the dataset of the val sets, and the training dataset; None if that no longer exists.

    Raises:
        BadInput: the dataset of the val sets cannot be used.
    """
    dataset = open_dataset(store, plan.dataset)
    if plan.trained_on == plan.dataset:
        return dataset, dataset
    try:
        return dataset, open_dataset(store, plan.trained_on)
    except BadInput as error:
        log.warning("memorisation cannot be measured: %s", error)
        return dataset, None


def report_version(
    plan: EvaluationPlan, dataset: Dataset, trained: Dataset | None, scorers: Scorers
) -> str:
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
            dataset.manifest.version,
            trained.manifest.version if trained else "",
            scorers.labels(),
            plan.overrides,
            [section.to_json() for section in sections],
        ]
    )


def render_and_measure(
    store: Store,
    plan: EvaluationPlan,
    trained: Dataset | None,
    prompts: PromptSet,
    scorers: Scorers,
    progress: ProgressCallback,
) -> ReportData:
    """Renders and measures all arms; existing renders and embeddings are reused."""
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
