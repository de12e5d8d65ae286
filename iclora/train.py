"""Training of an adapter, by iclora's own trainer or by AI-Toolkit.

This module imports nothing heavy, which keeps the command line fast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from iclora.names import check_name
from iclora.store import Store
from schemas.adapter import AdapterRef
from schemas.config import Config
from schemas.training import StepReport, TrainParams


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
        config: the resolved configuration; ``train.trainer`` names the trainer.
        name: name of the adapter.
        progress: callback that runs after every step; AI-Toolkit does not call it.
        resume: version of the interrupted run to continue. If empty, a run with the same inputs
            continues and any other inputs start a new run.

    Returns:
        Reference to ``adapters/<name>/<version>/``.

    Raises:
        BadInput: the dataset is unusable, or there is nothing to resume.
        BadConfig: the name is invalid; settings conflict with each other, the base, the dataset or
            the trainer; or ``resume`` names a different run (the message lists the differences).
        MissingModel: the base is not on this machine.
        TrainingInterrupted: Ctrl+C or SIGTERM, after writing a checkpoint.
        TrainingBroken: too many losses were not finite.
    """
    check_name(name, "an adapter")
    from iclora.training.run import run_training, train_with_iclora

    if runs_in_one_process(config.train):
        from iclora.training.ai_toolkit.launch import train_with_ai_toolkit

        trainer = train_with_ai_toolkit
    else:
        trainer = partial(train_with_iclora, on_step=progress)
    return run_training(store, dataset, config, name, trainer=trainer, resume=resume)


def runs_in_one_process(params: TrainParams) -> bool:
    """Checks if AI-Toolkit trains, as one process; iclora's trainer runs one per GPU."""
    return params.trainer == "ai-toolkit"
