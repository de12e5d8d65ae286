"""Training plan: decisions made before step 1, computed without weights or a GPU."""

from __future__ import annotations

import logging
from collections import Counter

import torch

from iclora.dataset.reader import open_dataset
from iclora.errors import BadConfig, MissingModel
from iclora.models.families import load_family
from iclora.models.locate import locate
from iclora.store import Store
from iclora.training.base_model import geometry_of, shape_at
from iclora.training.memory import (
    MemoryOption,
    available_weights,
    choose_weights,
    free_bytes,
    memory_options,
    options_that_fit,
)
from iclora.training.optimizer import require_optimizer
from iclora.training.run_inputs import read_training_data, refuse_preview, tokens_of
from schemas.config import Config
from schemas.training import Bucket, TrainPlan

log = logging.getLogger(__name__)

_GIB = 2**30


def plan(store: Store, dataset: str, config: Config, memory: float) -> TrainPlan:
    """Implements ``iclora.training.plan_training``."""
    opened, train = open_dataset(store, dataset), config.train
    try:
        refuse_preview(opened, config.base.model, config.data)
        require_optimizer(train.optimizer)
    except BadConfig as refusal:  # planning is safe even if the run would fail
        log.warning("training would be refused: %s", refusal)
    family = load_family(config.base.family)
    try:
        located = locate(config.base.model, fetch=False)
        family.check(located.folder, training_adapter=train.training_adapter)
        base = f"{config.base.model}@{located.revision}"
        geometry = geometry_of(family, located.folder)
    except MissingModel:
        base, geometry = f"{config.base.model} (not here)", family.released
    data = read_training_data(opened, config.data, train, geometry.token_pixels)
    tokens = tokens_of(data, geometry.text_tokens)
    shape = shape_at(geometry, train.lora.rank)
    free = memory * _GIB
    if not free and torch.cuda.is_available():
        free = free_bytes(torch.device("cuda"))
    weights = "dense" if train.weights == "auto" else train.weights
    if free and train.memory_plan == "auto":
        weights = choose_weights(shape, train, max(tokens.values()), free, available_weights())
    options = dict.fromkeys(
        tokens, MemoryOption(train.activation_checkpointing, train.micro_batch or train.batch)
    )
    if free:
        ladder = memory_options(train.batch, train)
        options = {
            grid: options_that_fit(shape, weights, ladder, count, free)[0]
            for grid, count in tokens.items()
        }
    samples = Counter(
        (resolution, view.grid)
        for item in data.train.values()
        for resolution, view in item.views.items()
    )
    # A run also writes a checkpoint at step 0 and after its last step.
    checkpoints = sorted({*range(0, train.steps + 1, train.save_every), train.steps})
    return TrainPlan(
        base=base,
        device=f"{free / _GIB:.1f} GiB free" if free else "cpu",
        samples=len(data.train),
        steps=train.steps,
        batch=train.batch,
        weights=weights,
        buckets=tuple(
            Bucket(
                width=grid.columns * geometry.token_pixels,
                height=grid.rows * geometry.token_pixels,
                resolution=resolution,
                samples=count,
                tokens=grid.count,
                micro_batch=options[grid].micro_batch,
                checkpoint_blocks=options[grid].share,
            )
            for (resolution, grid), count in sorted(samples.items())
        ),
        checkpoints=tuple(checkpoints[-train.keep_checkpoints :]),
        epochs=round(train.steps * train.batch / len(data.train), 2),
    )
