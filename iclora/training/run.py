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
from iclora.training.checkpoint import checkpoints, differences, read_state, require_same_run
from iclora.training.dataloader import BatchLoader
from iclora.training.distributed import DistEnv
from iclora.training.lora import add_lora, load_start
from iclora.training.memory import base_bytes
from iclora.training.memory_plan import MemoryPlan, free_bytes
from iclora.training.metrics import final_loss
from iclora.training.optimizer import AdapterOptimizer, require_optimizer
from iclora.training.perf import peak_memory
from iclora.training.publish_adapter import library_versions, publish
from iclora.training.remote_checkpoints import RemoteCheckpoints
from iclora.training.run_inputs import (
    RunInputs,
    TrainingData,
    fill_caches,
    open_job,
    read_training_data,
    tokens_of,
)
from iclora.training.sample_grid import SampleGrid, grid_captions
from iclora.training.sharding import shard
from iclora.training.signals import StopRequest, stop_requests
from iclora.training.train_step import StepContext
from iclora.training.trainer import OnStep, Trainer, TrainerParts
from iclora.training.validation import Validator
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
    data = _prepare(inputs, dist)
    trainer, parts = build_trainer(inputs, data, dist)
    seconds = trainer.train(request, on_step)
    dist.first(
        lambda: publish(inputs, _record(inputs, trainer, parts, seconds, data.counts), parts)
    )


def adapter_ref(store: Store, place: str) -> AdapterRef:
    """Builds the reference to a published adapter from its run record."""
    record = RunRecord.from_text(store.read(f"{place}/run.json"))
    return AdapterRef(
        name=record.name,
        version=record.version,
        url=store.address(place),
        steps=record.steps,
        loss=record.loss,
        resumed_from=record.resumed_from,
    )


def _refuse_different(inputs: RunInputs, dist: DistEnv) -> None:
    """Checks that all processes have the same dataset, base, and settings.

    Raises:
        BadConfig: a process differs; the message lists the differences of the first such process.
    """
    found = dist.gather((socket.gethostname(), inputs.identity))

    def compare() -> None:
        for rank, (host, identity) in enumerate(found):
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
    found = checkpoints(work / "checkpoints")
    if not found:
        raise BadInput(f"there is no checkpoint of {name}@{version} in {work}")
    require_same_run(read_state(found[-1]).identity, inputs.identity)


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


def _prepare(inputs: RunInputs, dist: DistEnv) -> TrainingData:
    with dist.together():
        require_optimizer(inputs.config.train.optimizer)
        step = inputs.family.token_pixels(inputs.base.folder)
        data = read_training_data(inputs.dataset, inputs.config, step)

    def encode() -> None:
        more = grid_captions(inputs, data.train, data.val)
        data.counts["captions_cut"] = fill_caches(inputs, data, dist.device, more)
        log.info("%s", ", ".join(f"{key} {count}" for key, count in data.counts.items()))

    dist.first(encode)
    return data


def build_trainer(
    inputs: RunInputs, data: TrainingData, dist: DistEnv
) -> tuple[Trainer, TrainerParts]:
    """Loads the base and assembles the trainer with its dependencies."""
    context = _build_context(inputs, data, dist)
    transformer, optimizer = context.transformer, context.optimizer
    check = Validator(
        data.val, inputs.cache, inputs.family, transformer, inputs.config, dist.device
    )
    views = [view for item in data.train.values() for view in item.views.values()]
    grid = SampleGrid(
        inputs,
        inputs.cache,
        transformer,
        max(views, key=lambda view: view.grid),
        grid_captions(inputs, data.train, data.val),
        dist,
    )
    renders = inputs.work_folder / "renders"

    def draw(step: int) -> None:
        grid.draw(renders / f"step-{step:08d}.jpg", optimizer.ema, optimizer.tensors)

    parts = TrainerParts(
        context=context,
        identity=inputs.identity,
        folder=inputs.work_folder,
        validate=lambda: check(optimizer.ema, optimizer.tensors),
        draw=draw,
        remote=RemoteCheckpoints(inputs.store, inputs.path, inputs.work_folder),
    )
    return Trainer(parts), parts


def _build_context(inputs: RunInputs, data: TrainingData, dist: DistEnv) -> StepContext:
    """Builds the base, adapter, optimizer, and batch loader with a fitting memory plan."""
    train = inputs.config.train
    tokens = tokens_of(data, inputs.family.text_length(inputs.base.folder))
    with dist.together():
        base = load_base(inputs, dist, max(tokens.values()))
        tensors = add_lora(base.transformer, inputs.family, rank=train.lora.rank, seed=train.seed)
        if train.lora.start_from:
            load_start(tensors, Path(train.lora.start_from), inputs.family)
        memory = MemoryPlan(
            train, ActivationCheckpointing(base.transformer), -(-train.batch // dist.world_size)
        )
        prepare_speed(base.transformer, train)
    if dist.is_sharded:
        shard(base.transformer, repeated_blocks(base.transformer), tensors, dist)
    with dist.together():
        optimizer = AdapterOptimizer(tensors, train.optimizer, train.steps, offload=train.offload)
        loader = BatchLoader(data.train, inputs.cache, inputs.family, inputs.config, dist)
        if dist.device.type == "cuda":
            free = free_bytes(dist.device) + base_bytes(base.shape, base.weights)
            memory.plan(base.shape, base.weights, tokens, free)
            if dist.is_sharded:
                memory.equalize()
            for grid in tokens:
                loader.set_micro_batch(grid, memory.option(grid).micro_batch)
            log.info("%s weights; %s", base.weights, memory.describe())
    panels = max(item.panels for item in [*data.train.values(), *data.val])
    return StepContext(inputs.family, base.transformer, optimizer, loader, memory, dist, panels)


def _record(
    inputs: RunInputs, trainer: Trainer, parts: TrainerParts, seconds: float, more: dict[str, int]
) -> RunRecord:
    done = max(1, trainer.progress.step - trainer.resumed_from)
    counts: dict[str, int] = {**trainer.train_step.counts, **more}
    counts["parameters"] = sum(
        tensor.numel() for tensor in parts.context.optimizer.tensors.values()
    )
    counts["steps_this_stretch"] = done
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
        processes=parts.context.dist.world_size,
        seconds=round(seconds, 3),
        tokens_per_second=round(trainer.train_step.counts["tokens"] / max(seconds, 1e-9), 1),
        utilisation=round(trainer.utilisation(max(seconds, 1e-9)), 4),
        peak_memory=round(peak_memory(parts.context.dist.device), 2),
        plan=parts.context.memory.describe(),
        waiting=round(trainer.train_step.seconds_waiting / max(seconds, 1e-9), 4),
        counts=dict(sorted(counts.items())),
        versions=library_versions(),
    )
