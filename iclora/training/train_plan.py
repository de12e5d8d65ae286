"""Training plan: decisions made before step 1, computed without weights or a GPU."""

from __future__ import annotations

import logging
from collections import Counter

import torch

from iclora.dataset.reader import open_dataset
from iclora.errors import BadConfig, MissingModel
from iclora.models.families import Family, Geometry, Grid, load_family
from iclora.models.locate import locate
from iclora.store import Store
from iclora.training.base_model import geometry_of, shape_at
from iclora.training.memory import (
    MemoryOption,
    ModelShape,
    choose_weights,
    memory_options,
    options_that_fit,
)
from iclora.training.memory_plan import available_weights, free_bytes
from iclora.training.optimizer import require_optimizer
from iclora.training.run_inputs import TrainingData, read_training_data, refuse_preview, tokens_of
from schemas.config import Config
from schemas.training import Bucket, TrainPlan

log = logging.getLogger(__name__)

_GIB = 2**30


def plan(store: Store, dataset: str, config: Config, memory: float) -> TrainPlan:
    """Implements ``iclora.training.plan_training``."""
    data = open_dataset(store, dataset)
    try:
        refuse_preview(data, config)
        require_optimizer(config.train.optimizer)
    except BadConfig as refusal:  # planning is safe even if the run would fail
        log.warning("training would be refused: %s", refusal)
    base, geometry = _base(load_family(config.base.family), config)
    material = read_training_data(data, config, geometry.token_pixels)
    tokens = tokens_of(material, geometry.text_tokens)
    shape = shape_at(geometry, config.train.lora.rank)
    free = memory * _GIB or _measured()
    weights = _weights(shape, config, tokens, free)
    options = {grid: _rung(shape, weights, config, tokens[grid], free) for grid in tokens}
    train = config.train
    return TrainPlan(
        base=base,
        device=f"{free / _GIB:.1f} GiB free" if free else "cpu",
        samples=len(material.train),
        steps=train.steps,
        batch=train.batch,
        weights=weights,
        buckets=_buckets(material, geometry, options),
        checkpoints=_checkpoints(train.steps, train.save_every, train.keep_checkpoints),
        epochs=round(train.steps * train.batch / len(material.train), 2),
    )


def _base(family: Family, config: Config) -> tuple[str, Geometry]:
    try:
        found = locate(config.base.model, fetch=False)
    except MissingModel:
        return f"{config.base.model} (not here)", family.released
    family.check(found.folder, training_adapter=config.train.training_adapter)
    return f"{config.base.model}@{found.revision}", geometry_of(family, found.folder)


def _measured() -> float:
    return free_bytes(torch.device("cuda")) if torch.cuda.is_available() else 0.0


def _weights(shape: ModelShape, config: Config, tokens: dict[Grid, int], free: float) -> str:
    train = config.train
    if free and train.memory_plan == "auto":
        return choose_weights(shape, train, max(tokens.values()), free, available_weights())
    return "dense" if train.weights == "auto" else train.weights


def _rung(
    shape: ModelShape, weights: str, config: Config, tokens: int, free: float
) -> MemoryOption:
    train = config.train
    if not free:
        return MemoryOption(train.activation_checkpointing, train.micro_batch or train.batch)
    return next(options_that_fit(shape, weights, memory_options(train.batch, train), tokens, free))


def _buckets(
    data: TrainingData, geometry: Geometry, options: dict[Grid, MemoryOption]
) -> tuple[Bucket, ...]:
    counts = Counter(
        (resolution, view.grid)
        for item in data.train.values()
        for resolution, view in item.views.items()
    )
    return tuple(
        Bucket(
            width=grid.columns * geometry.token_pixels,
            height=grid.rows * geometry.token_pixels,
            resolution=resolution,
            samples=count,
            tokens=grid.count,
            micro_batch=options[grid].micro_batch,
            checkpoint_blocks=options[grid].share,
        )
        for (resolution, grid), count in sorted(counts.items())
    )


def _checkpoints(steps: int, every: int, keep: int) -> tuple[int, ...]:
    """Lists the checkpoint steps that remain at the end of the run."""
    regular = list(range(0, steps + 1, every))
    last = [] if steps % every == 0 else [steps]
    return tuple(sorted({*regular, *last})[-keep:])
