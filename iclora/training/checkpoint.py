"""Checkpoints that are whole or not there.

A checkpoint is a folder: raw weights, moving average, optimizer, and ``state.json`` with the step
and everything that identifies the run. It is written beside its place, every file is synced, and
one rename makes it appear, so a kill at any byte leaves the one before it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import safetensors.torch
from torch import Tensor

from iclora.errors import BadConfig
from iclora.training.distributed import DistEnv
from iclora.training.optimizer import AdapterOptimizer
from schemas.adapter import CheckpointState, RunIdentity, TrainingProgress
from schemas.training import MONITORING_FIELDS

log = logging.getLogger(__name__)

_PATTERN = "step-*"
_PARTS = ("raw", "ema", "optimizer")


def save_checkpoint(
    folder: Path, optimizer: AdapterOptimizer, identity: RunIdentity, progress: TrainingProgress
) -> Path:
    """Writes ``folder/step-<n>``; one that is there already is left as it is."""
    place = folder / f"step-{progress.step:08d}"
    if place.exists():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{place.name}.{os.getpid()}.tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    tensors, numbers = optimizer.optimizer_state()
    parts = {"raw": optimizer.tensors, "ema": optimizer.ema, "optimizer": tensors}
    for name, part in parts.items():
        _write(scratch / f"{name}.safetensors", part)
    state = CheckpointState(identity=identity, progress=progress, optimizer=numbers)
    (scratch / "state.json").write_text(state.to_text(), encoding="utf-8")
    for path in (*scratch.iterdir(), scratch):
        _sync(path)
    scratch.rename(place)
    _sync(folder)
    log.info("checkpoint after step %d", progress.step)
    return place


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(flat, path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints, oldest first."""
    return sorted(folder.glob(_PATTERN))


def prune(folder: Path, keep: int, keep_every: int) -> None:
    """Removes all but the newest ``keep``, what was left half written, and stray stops.

    A checkpoint off the schedule (``keep_every``) was written by a stop; it goes as soon as a
    newer one is there, so which checkpoints remain does not depend on when a run was stopped.
    """
    found = checkpoints(folder)
    stray = [path for path in found[:-1] if step_of(path) % keep_every]
    regular = [path for path in found if path not in stray]
    for path in (*stray, *regular[:-keep], *folder.glob(".step-*.tmp")):
        doomed = path if path.name.startswith(".") else path.with_name(f".{path.name}.0.tmp")
        if doomed != path:
            path.rename(doomed)  # never a half-removed folder under a whole one's name
        shutil.rmtree(doomed)


def step_of(checkpoint: Path) -> int:
    """The number of steps done."""
    return int(checkpoint.name.removeprefix("step-"))


def read_state(checkpoint: Path) -> CheckpointState:
    """What is beside the tensors."""
    return CheckpointState.from_text((checkpoint / "state.json").read_bytes())


def restore(
    checkpoint: Path, learner: AdapterOptimizer, identity: RunIdentity, dist: DistEnv
) -> TrainingProgress:
    """Brings every process's learner back to a checkpoint of the same run.

    The first process reads it, because only its machine is sure to have it.

    Raises:
        BadConfig: it was written by another run; the text shows the difference.
    """

    def read() -> CheckpointState:
        state = read_state(checkpoint)
        require_same_run(state.identity, identity)
        for name in _PARTS:
            parts[name] = safetensors.torch.load_file(checkpoint / f"{name}.safetensors")
        return state

    parts: dict[str, dict[str, Tensor]] = {name: {} for name in _PARTS}
    state = dist.first(read)
    raw, average, optimizer = (dist.spread(parts[name]) for name in _PARTS)
    learner.restore(raw, average, (optimizer, state.optimizer))
    return state.progress


def require_same_run(before: RunIdentity, now: RunIdentity) -> None:
    """Says in what two runs differ, if they do.

    Raises:
        BadConfig: with the differences.
    """
    if before.version != now.version:
        raise BadConfig(
            f"{before.name}@{before.version} cannot be resumed as another run "
            f"({differences(before, now)}); undo the change or train without --resume"
        )


def differences(one: RunIdentity, other: RunIdentity) -> str:
    """Lists in what two runs differ that a result depends on, as ``key: one -> other; …``."""
    old, new = (dict(_leaves({"name": run.name, **versioned_fields(run)})) for run in (one, other))
    return "; ".join(
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    )


def versioned_fields(identity: RunIdentity) -> dict[str, Any]:
    """What a run's result depends on, as plain JSON."""
    config = identity.config.to_json()
    train = {key: value for key, value in config["train"].items() if key not in MONITORING_FIELDS}
    return {
        "dataset": identity.dataset,
        "base": identity.base,
        "config": {"base": config["base"], "data": config["data"], "train": train},
    }


def _leaves(tree: dict[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(cast("dict[str, Any]", value), f"{where}{key}.")
        else:
            yield f"{where}{key}", value
