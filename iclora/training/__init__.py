"""Training: a dataset version to an adapter.

This module imports nothing heavy, so that the command line stays quick; the work is in ``run``.
"""

from __future__ import annotations

from collections.abc import Callable

from iclora.names import check_name
from iclora.store import Store
from iclora.training.ai_toolkit import ToolkitJob, explain, export_ai_toolkit, read_ai_toolkit
from schemas.adapter import AdapterRef
from schemas.config import Config
from schemas.training import StepReport, TrainPlan

__all__ = [
    "ToolkitJob",
    "explain",
    "export_ai_toolkit",
    "plan_training",
    "read_ai_toolkit",
    "train_adapter",
]


def _nobody(_report: StepReport) -> None:
    """Watches nothing."""


def train_adapter(
    store: Store,
    dataset: str,
    config: Config,
    name: str,
    *,
    progress: Callable[[StepReport], None] = _nobody,
    resume: str = "",
) -> AdapterRef:
    """Trains an adapter, or goes on with one that was interrupted, or finds it done.

    Args:
        store: where caches, running work and the adapter live.
        dataset: path, URL, ``name`` or ``name@version``.
        config: the resolved configuration.
        name: of the adapter.
        progress: called after every step.
        resume: version of an interrupted run that this must be the continuation of; without it a
            run of the same inputs is continued and any other is a new one.

    Returns:
        The reference to ``adapters/<name>/<version>/``.

    Raises:
        BadInput: the dataset cannot be used, or there is nothing to resume.
        BadConfig: the name cannot be one; settings contradict each other, the base or the dataset;
            or ``resume`` names another run, in which case the text shows the difference.
        MissingModel: the base is not on this machine.
        TrainingInterrupted: Ctrl+C or SIGTERM, after a checkpoint was written.
        TrainingBroken: too many losses were not finite.
    """
    check_name(name, "an adapter")
    from iclora.training.run import train

    return train(store, dataset, config, name, on_step=progress, resume=resume)


def plan_training(store: Store, dataset: str, config: Config, *, memory: float = 0.0) -> TrainPlan:
    """A dry run: buckets, batches and how a step would be made to fit.

    Works without the base's weights, from the family's released sizes.

    Args:
        store: where datasets are.
        dataset: path, URL, ``name`` or ``name@version``.
        config: the resolved configuration.
        memory: GiB of the device to plan for; 0 plans for this machine.

    Raises:
        BadInput: the dataset cannot be used.
        BadConfig: settings contradict each other, or nothing fits into the memory.
    """
    from iclora.training.train_plan import plan

    return plan(store, dataset, config, memory)
