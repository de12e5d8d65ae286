"""Training of an adapter with iclora's own trainer; ``iclora.train`` is the way in.

This module imports nothing heavy, which keeps the command line fast.
"""

from __future__ import annotations

from iclora.store import Store
from schemas.config import Config
from schemas.training import TrainPlan

__all__ = ["plan_training"]


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
