"""End-to-end training run, from a dataset version to a published adapter."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from iclora.errors import BadConfig, BadInput
from iclora.locks import file_lock
from iclora.store import Store
from iclora.training.activation_checkpointing import ActivationCheckpointing, repeated_blocks
from iclora.training.base_model import load_base, prepare_speed
from iclora.training.checkpoint import (
    RemoteCheckpoints,
    checkpoints,
    differences,
    read_state,
    require_same_run,
)
from iclora.training.dataloader import BatchLoader
from iclora.training.distributed import DistEnv, shard
from iclora.training.lora import add_lora, load_start
from iclora.training.memory import MemoryPlan, base_bytes, free_bytes
from iclora.training.metrics import final_loss
from iclora.training.optimizer import AdapterOptimizer, require_optimizer
from iclora.training.perf import peak_memory
from iclora.training.publish import library_versions, publish
from iclora.training.run_inputs import (
    RunInputs,
    TrainingData,
    fill_caches,
    open_job,
    read_training_data,
    tokens_of,
)
from iclora.training.sample_grid import SampleGrid, grid_captions
from iclora.training.signals import StopRequest, stop_requests
from iclora.training.train_step import StepContext
from iclora.training.trainer import OnStep, Trainer
from iclora.training.validation import validation_losses
from schemas.adapter import AdapterRef, RunRecord
from schemas.config import Config
from schemas.store_paths import adapter_path

log = logging.getLogger(__name__)


def run_training(
    store: Store,
    dataset: str,
    config: Config,
    name: str,
    *,
    trainer: Callable[[RunInputs, DistEnv, StopRequest], None],
    resume: str,
) -> AdapterRef:
    """Runs a trainer unless its adapter is there already; see ``iclora.train.train_adapter``."""
    dist = DistEnv()
    with dist.together():
        inputs = open_job(store, dataset, config, name)
    _refuse_different(inputs, dist)
    if resume:
        dist.first(lambda: _require_checkpoint_of(inputs, resume))
    with _run_lock(inputs, dist), stop_requests() as request:
        if not dist.first(lambda: store.exists(f"{inputs.path}/manifest.json")):
            trainer(inputs, dist, request)
        elif dist.is_main:
            log.info("%s is trained already", inputs.path)
    return adapter_ref(store, inputs.path)


def train_with_iclora(
    inputs: RunInputs, dist: DistEnv, request: StopRequest, on_step: OnStep
) -> None:
    """Trains with iclora's own trainer and publishes the adapter."""
    with dist.together():
        config = inputs.config
        require_optimizer(config.train.optimizer)
        token_pixels = inputs.family.token_pixels(inputs.base.folder)
        data = read_training_data(inputs.dataset, config.data, config.train, token_pixels)

    def encode() -> None:
        captions = grid_captions(inputs, data)
        data.counts["captions_cut"] = fill_caches(inputs, data, dist.device, captions)
        log.info("%s", ", ".join(f"{key} {count}" for key, count in data.counts.items()))

    dist.first(encode)
    trainer = build_trainer(inputs, data, dist)
    seconds = trainer.train(request, on_step)

    def publish_run() -> None:
        record = _record(inputs, trainer, seconds, data.counts)
        publish(inputs, record, trainer.context)

    dist.first(publish_run)


def adapter_ref(store: Store, path: str) -> AdapterRef:
    """Builds the reference to a published adapter from its run record."""
    record = RunRecord.from_text(store.read(f"{path}/run.json"))
    return AdapterRef(
        name=record.name,
        version=record.version,
        url=store.address(path),
        steps=record.steps,
        loss=record.loss,
        resumed_from=record.resumed_from,
    )


def _refuse_different(inputs: RunInputs, dist: DistEnv) -> None:
    """Checks that all processes have the same dataset, base, and settings.

    Raises:
        BadConfig: a process differs; the message lists the differences of the first such process.
    """
    identities = dist.gather((socket.gethostname(), inputs.identity))

    def compare() -> None:
        for rank, (host, identity) in enumerate(identities):
            if changes := differences(inputs.identity, identity):
                raise BadConfig(
                    f"process {rank} on {host} was started for another training ({changes}); give "
                    "every machine the same dataset, base and settings"
                )

    dist.first(compare)


def _require_checkpoint_of(inputs: RunInputs, version: str) -> None:
    name = inputs.identity.name
    work = inputs.work_folder.with_name(f"{name}-{version}")
    RemoteCheckpoints(inputs.store, adapter_path(name, version=version), work).pull()
    saved = checkpoints(work / "checkpoints")
    if not saved:
        raise BadInput(f"there is no checkpoint of {name}@{version} in {work}")
    require_same_run(read_state(saved[-1]).identity, inputs.identity)


@contextmanager
def _run_lock(inputs: RunInputs, dist: DistEnv) -> Generator[None]:
    """Holds the run's lock on the first process's machine, waiting for any other holder."""
    with ExitStack() as stack:
        with dist.together():
            if dist.is_main:
                inputs.work_folder.mkdir(parents=True, exist_ok=True)
                file = inputs.work_folder.parent / f".{inputs.work_folder.name}.lock"
                stack.enter_context(file_lock(file, f"the training of {inputs.identity.name}"))
        yield


def build_trainer(inputs: RunInputs, data: TrainingData, dist: DistEnv) -> Trainer:
    """Loads the base and assembles the trainer with its dependencies."""
    context = _build_context(inputs, data, dist)
    views = [view for item in data.train.values() for view in item.views.values()]
    largest = max(views, key=lambda view: view.grid)
    grid = SampleGrid(inputs, context, largest, grid_captions(inputs, data))

    def draw(step: int) -> None:
        grid.draw(inputs.work_folder / "renders" / f"step-{step:08d}.jpg")

    return Trainer(
        context,
        inputs.identity,
        RemoteCheckpoints(inputs.store, inputs.path, inputs.work_folder),
        validate=lambda: validation_losses(inputs, data.val, context),
        draw=draw,
    )


def _build_context(inputs: RunInputs, data: TrainingData, dist: DistEnv) -> StepContext:
    """Builds the base, adapter, optimizer, and batch loader with a fitting memory plan."""
    train = inputs.config.train
    tokens = tokens_of(data, inputs.family.text_length(inputs.base.folder))
    with dist.together():
        transformer, weights, shape = load_base(inputs, dist, max(tokens.values()))
        tensors = add_lora(transformer, inputs.family, rank=train.lora.rank, seed=train.seed)
        if train.lora.start_from:
            load_start(tensors, Path(train.lora.start_from), inputs.family)
        memory = MemoryPlan(
            train, ActivationCheckpointing(transformer), -(-train.batch // dist.world_size)
        )
        prepare_speed(transformer, train)
    if dist.is_sharded:
        shard(transformer, repeated_blocks(transformer), tensors, dist)
    with dist.together():
        optimizer = AdapterOptimizer(tensors, train.optimizer, train.steps, offload=train.offload)
        loader = BatchLoader(
            data.train, inputs.cache, inputs.family, inputs.config.data, train, dist
        )
        if dist.device.type == "cuda":
            free = free_bytes(dist.device) + base_bytes(shape, weights)
            memory.plan(shape, weights, tokens, free)
            if dist.is_sharded:
                memory.equalize()
            for grid in tokens:
                loader.set_micro_batch(grid, memory.option(grid).micro_batch)
            log.info("%s weights; %s", weights, memory.describe())
    panels = max(item.panels for item in [*data.train.values(), *data.val])
    return StepContext(inputs.family, transformer, optimizer, loader, memory, dist, panels)


def _record(
    inputs: RunInputs, trainer: Trainer, seconds: float, sample_counts: dict[str, int]
) -> RunRecord:
    context, seconds = trainer.context, max(seconds, 1e-9)
    counts = {**trainer.train_step.counts, **sample_counts}
    counts["parameters"] = sum(tensor.numel() for tensor in context.optimizer.tensors.values())
    counts["steps_this_stretch"] = max(1, trainer.progress.step - trainer.resumed_from)
    return RunRecord(
        name=inputs.identity.name,
        version=inputs.identity.version,
        dataset=inputs.identity.dataset,
        base=inputs.identity.base,
        preview=inputs.dataset.manifest.preview,
        config=inputs.config,
        steps=trainer.progress.step,
        loss=final_loss(inputs.work_folder / "metrics.jsonl"),
        validation=trainer.validation,
        skipped=trainer.progress.skipped,
        rollbacks=trainer.progress.rollbacks,
        resumed_from=trainer.resumed_from,
        processes=context.dist.world_size,
        seconds=round(seconds, 3),
        tokens_per_second=round(trainer.train_step.counts["tokens"] / seconds, 1),
        utilisation=round(trainer.utilisation(seconds), 4),
        peak_memory=round(peak_memory(context.dist.device), 2),
        plan=context.memory.describe(),
        waiting=round(trainer.train_step.seconds_waiting / seconds, 4),
        counts=dict(sorted(counts.items())),
        versions=library_versions(),
    )
