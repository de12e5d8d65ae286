"""Public API for training an adapter on a dataset version.

This module imports nothing heavy, which keeps the command line fast. ``run`` does the work.
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


def train_adapter(
    store: Store,
    dataset: str,
    config: Config,
    name: str,
    *,
    progress: Callable[[StepReport], None] = lambda _report: None,
    resume: str = "",
) -> AdapterRef:
    """Trains an adapter, resuming an interrupted run and reusing a finished one.

    Args:
        store: store that holds caches, running work, and the adapter.
        dataset: path, URL, ``name`` or ``name@version``.
        config: the resolved configuration.
        name: name of the adapter.
        progress: callback that runs after every step.
        resume: version of the interrupted run to continue. If empty, a run with the same inputs
            continues and any other inputs start a new run.

    Returns:
        Reference to ``adapters/<name>/<version>/``.

    Raises:
        BadInput: the dataset is unusable, or there is nothing to resume.
        BadConfig: the name is invalid; settings conflict with each other, the base, or the
            dataset; or ``resume`` names a different run (the message lists the differences).
        MissingModel: the base is not on this machine.
        TrainingInterrupted: Ctrl+C or SIGTERM, after writing a checkpoint.
        TrainingBroken: too many losses were not finite.
    """
    check_name(name, "an adapter")
    from iclora.training.run import train

    return train(store, dataset, config, name, on_step=progress, resume=resume)


def plan_training(store: Store, dataset: str, config: Config, *, memory: float = 0.0) -> TrainPlan:
    """Plans a run without training: buckets, batch sizes, and the memory plan of a step.

    Without the base's weights, the plan uses the family's released sizes.

    Args:
        store: store that holds the datasets.
        dataset: path, URL, ``name`` or ``name@version``.
        config: the resolved configuration.
        memory: device memory to plan for, in GiB; 0 plans for this machine.

    Raises:
        BadInput: the dataset is unusable.
        BadConfig: settings conflict with each other, or nothing fits in memory.
    """
    from iclora.training.train_plan import plan

    return plan(store, dataset, config, memory)
