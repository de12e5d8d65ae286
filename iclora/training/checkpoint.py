"""Atomic checkpoints.

A checkpoint folder holds the raw weights, moving average, optimizer state, and ``state.json`` with
the progress and identity of the run. Files are written to a temporary folder, synced to disk, and
published with a single rename, so a crash at any point leaves the previous checkpoint intact.
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
    """Writes ``folder/step-<n>`` unless it already exists, and returns its path."""
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
    """Lists complete checkpoints, oldest first."""
    return sorted(folder.glob(_PATTERN))


def prune(folder: Path, keep: int, keep_every: int) -> None:
    """Keeps the newest ``keep`` scheduled checkpoints and removes partial and off-schedule ones.

    A stop writes a checkpoint off the ``keep_every`` schedule. Pruning removes it once a newer
    checkpoint exists, so the remaining checkpoints do not depend on interruptions.
    """
    found = checkpoints(folder)
    stray = [path for path in found[:-1] if step_of(path) % keep_every]
    regular = [path for path in found if path not in stray]
    for path in (*stray, *regular[:-keep], *folder.glob(".step-*.tmp")):
        doomed = path if path.name.startswith(".") else path.with_name(f".{path.name}.0.tmp")
        if doomed != path:
            path.rename(doomed)  # a complete name never refers to a partially removed folder
        shutil.rmtree(doomed)


def step_of(checkpoint: Path) -> int:
    """Parses the number of completed steps from a checkpoint's name."""
    return int(checkpoint.name.removeprefix("step-"))


def read_state(checkpoint: Path) -> CheckpointState:
    """Reads ``state.json`` of a checkpoint."""
    return CheckpointState.from_text((checkpoint / "state.json").read_bytes())


def restore(
    checkpoint: Path, learner: AdapterOptimizer, identity: RunIdentity, dist: DistEnv
) -> TrainingProgress:
    """Restores the optimizer of every process from a checkpoint of the same run.

    The first process reads the files and broadcasts them, because other machines may lack them.

    Raises:
        BadConfig: a different run wrote the checkpoint; the message lists the differences.
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
    """Checks that two identities belong to the same run.

    Raises:
        BadConfig: the versions differ; the message lists the differences.
    """
    if before.version != now.version:
        raise BadConfig(
            f"{before.name}@{before.version} cannot be resumed as another run "
            f"({differences(before, now)}); undo the change or train without --resume"
        )


def differences(one: RunIdentity, other: RunIdentity) -> str:
    """Formats differences in the versioned fields of two runs as ``key: one -> other; …``."""
    old, new = (dict(_leaves({"name": run.name, **versioned_fields(run)})) for run in (one, other))
    return "; ".join(
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    )


def versioned_fields(identity: RunIdentity) -> dict[str, Any]:
    """Returns the fields that determine a run's result, as plain JSON."""
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
