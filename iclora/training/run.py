"""A training from a dataset version to an adapter's folder."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from iclora.errors import BadInput
from iclora.store import Store
from iclora.training.ai_toolkit.hand_over import train_there
from iclora.training.base import load_base, prepare_speed
from iclora.training.blocks import Recompute, repeated_blocks
from iclora.training.checkpoint import checkpoints, read_state, refuse_other_run
from iclora.training.engine import Machine
from iclora.training.feed import Feed
from iclora.training.fit import Ladders, free_bytes
from iclora.training.fitting import taken_bytes
from iclora.training.job import (
    Job,
    Material,
    fill_caches,
    open_job,
    read_material,
    tokens_of,
)
from iclora.training.journal import final_loss
from iclora.training.learner import Learner, refuse_missing
from iclora.training.loop import Loop, Parts, Watch
from iclora.training.lora import add_lora, load_start
from iclora.training.mirror import Mirror
from iclora.training.publish import publish, versions
from iclora.training.sharding import shard
from iclora.training.sheets import Sheets, sheet_captions
from iclora.training.speed import peak_memory
from iclora.training.stop import StopRequest, stop_requests
from iclora.training.team import Team
from iclora.training.validate import Validator
from schemas.adapter import AdapterRef, RunRecord
from schemas.config import Config

log = logging.getLogger(__name__)


def train(
    store: Store, dataset: str, config: Config, name: str, *, watch: Watch, resume: str
) -> AdapterRef:
    """See ``iclora.training.train_adapter``."""
    job = open_job(store, dataset, config, name)
    if resume:
        _refuse_other(job, resume)
    team = Team()
    with _only_one(job, team), stop_requests() as request:
        if not store.exists(f"{job.place}/manifest.json"):
            if config.train.trainer == "ai-toolkit":
                train_there(job, team, request)
            else:
                _train_here(job, team, request, watch)
        elif team.leads:
            log.info("%s is trained already", job.place)
    return adapter_ref(store, job.place)


def _train_here(job: Job, team: Team, request: StopRequest, watch: Watch) -> None:
    refuse_missing(job.config.train.optimizer)
    material = _prepare(job, team)
    loop, parts = assemble(job, material, team)
    seconds = loop.run(request, watch)
    if team.leads:
        publish(job, _record(job, loop, parts, seconds, material.counts), parts)
    team.wait()


def adapter_ref(store: Store, place: str) -> AdapterRef:
    """The reference to an adapter that is there."""
    record = RunRecord.from_text(store.read(f"{place}/run.json"))
    return AdapterRef(
        name=record.name,
        version=record.version,
        url=store.address(place),
        steps=record.steps,
        loss=record.loss,
        resumed_from=record.resumed_from,
    )


def _refuse_other(job: Job, version: str) -> None:
    name = job.identity.name
    work = job.work.with_name(f"{name}-{version}")
    Mirror(job.store, f"adapters/{name}/{version}", work).pull()
    found = checkpoints(work / "checkpoints")
    if not found:
        raise BadInput(f"there is no checkpoint of {name}@{version} in {work}")
    refuse_other_run(read_state(found[-1]).identity, job.identity)


@contextmanager
def _only_one(job: Job, team: Team) -> Generator[None]:
    """Waits until no other process trains the same adapter on this machine."""
    job.work.mkdir(parents=True, exist_ok=True)
    if not team.leads:
        team.wait()
        yield
        return
    with (job.work.parent / f".{job.work.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("another process trains %s: waiting for it", job.identity.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        team.wait()
        yield


def _prepare(job: Job, team: Team) -> Material:
    step = job.family.token_pixels(job.base.folder)
    material = read_material(job.dataset, job.config, step)
    if team.leads:
        more = sheet_captions(job, material.train, material.val)
        material.counts["captions_cut"] = fill_caches(job, material, team.device, more)
        log.info("%s", ", ".join(f"{key} {count}" for key, count in material.counts.items()))
    team.wait()
    return material


def assemble(job: Job, material: Material, team: Team) -> tuple[Loop, Parts]:
    """Brings in the base and puts everything together that the steps need."""
    machine = _machine(job, material, team)
    transformer, learner = machine.transformer, machine.learner
    check = Validator(material.val, job.cache, job.family, transformer, job.config, team.device)
    views = [view for item in material.train.values() for view in item.views.values()]
    sheets = Sheets(
        job,
        job.cache,
        transformer,
        max(views, key=lambda view: view.grid),
        sheet_captions(job, material.train, material.val),
        team,
    )
    renders = job.work / "renders"

    def draw(step: int) -> None:
        sheets.draw(renders / f"step-{step:08d}.jpg", learner.average, learner.tensors)

    parts = Parts(
        machine=machine,
        identity=job.identity,
        folder=job.work,
        validate=lambda: check(learner.average, learner.tensors),
        draw=draw,
        mirror=Mirror(job.store, job.place, job.work),
    )
    return Loop(parts), parts


def _machine(job: Job, material: Material, team: Team) -> Machine:
    """Base, adapter, optimizer and feed, with a step made to fit."""
    train = job.config.train
    tokens = tokens_of(material, job.family.text_length(job.base.folder))
    base = load_base(job, team, max(tokens.values()))
    tensors = add_lora(base.transformer, job.family, rank=train.lora.rank, seed=train.seed)
    if train.lora.start_from:
        load_start(tensors, Path(train.lora.start_from), job.family)
    ladders = Ladders(train, Recompute(base.transformer), -(-train.batch // team.size))
    prepare_speed(base.transformer, train)
    if team.shards:
        shard(base.transformer, repeated_blocks(base.transformer), tensors, team)
    learner = Learner(tensors, train.optimizer, train.steps, offload=train.offload)
    feed = Feed(material.train, job.cache, job.family, job.config, team)
    if team.device.type == "cuda":
        free = free_bytes(team.device) + taken_bytes(base.shape, base.weights)
        ladders.plan(base.shape, base.weights, tokens, free)
        if team.shards:
            ladders.level()
        for grid in tokens:
            feed.divide(grid, ladders.rung(grid).micro_batch)
        log.info("%s weights; %s", base.weights, ladders.describe())
    panels = max(item.panels for item in [*material.train.values(), *material.val])
    return Machine(job.family, base.transformer, learner, feed, ladders, team, panels)


def _record(job: Job, loop: Loop, parts: Parts, seconds: float, more: dict[str, int]) -> RunRecord:
    done = max(1, loop.progress.step - loop.resumed_from)
    counts: dict[str, int] = {**loop.engine.counts, **more}
    counts["parameters"] = sum(tensor.numel() for tensor in parts.machine.learner.tensors.values())
    counts["steps_this_stretch"] = done
    return RunRecord(
        name=job.identity.name,
        version=job.identity.version,
        dataset=job.identity.dataset,
        base=job.identity.base,
        preview=job.dataset.manifest.preview,
        config=job.config,
        steps=loop.progress.step,
        loss=final_loss(job.work / "metrics.jsonl"),
        validation=loop.validation,
        skipped=loop.progress.skipped,
        rollbacks=loop.progress.rollbacks,
        resumed_from=loop.resumed_from,
        processes=parts.machine.team.size,
        seconds=round(seconds, 3),
        tokens_per_second=round(loop.engine.counts["tokens"] / max(seconds, 1e-9), 1),
        utilisation=round(loop.utilisation(max(seconds, 1e-9)), 4),
        peak_memory=round(peak_memory(parts.machine.team.device), 2),
        plan=parts.machine.ladders.describe(),
        waiting=round(loop.engine.waited / max(seconds, 1e-9), 4),
        counts=dict(sorted(counts.items())),
        versions=versions(),
    )
