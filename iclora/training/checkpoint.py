"""Atomic checkpoints, and their sync to an object store.

A folder holds the raw weights, moving average, optimizer state, and ``state.json`` with the
progress and identity of the run. It appears by a single rename after a sync to disk.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import safetensors.torch
from torch import Tensor

from iclora.errors import BadConfig, IcloraError
from iclora.redact import redact_url
from iclora.store import Store, atomic_write
from iclora.training.distributed import DistEnv
from iclora.training.optimizer import AdapterOptimizer
from schemas.adapter import CheckpointState, RunIdentity, TrainingProgress

log = logging.getLogger(__name__)

STATE = "state.json"
"""Last file uploaded per checkpoint; its presence marks the checkpoint as complete."""

_PARTS = ("raw", "ema", "optimizer")
_METRICS = "metrics.jsonl"


def save_checkpoint(
    folder: Path, optimizer: AdapterOptimizer, identity: RunIdentity, progress: TrainingProgress
) -> Path:
    """Writes ``folder/step-<n>`` unless it already exists, and returns its path."""
    path = folder / f"step-{progress.step:08d}"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".{path.name}.{os.getpid()}.tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    state_tensors, numbers = optimizer.optimizer_state()
    parts = (optimizer.tensors, optimizer.ema, state_tensors)
    for name, tensors in zip(_PARTS, parts, strict=True):
        flat = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        safetensors.torch.save_file(flat, scratch / f"{name}.safetensors")
    state = CheckpointState(identity=identity, progress=progress, optimizer=numbers)
    (scratch / STATE).write_text(state.to_text(), encoding="utf-8")
    for file in (*scratch.iterdir(), scratch):
        _sync(file)
    scratch.rename(path)
    _sync(folder)
    log.info("checkpoint after step %d", progress.step)
    return path


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checkpoints(folder: Path) -> list[Path]:
    """Lists complete checkpoints, oldest first."""
    return sorted(folder.glob("step-*"))


def prune(folder: Path, keep: int, keep_every: int) -> None:
    """Keeps the newest ``keep`` scheduled checkpoints and removes partial and off-schedule ones.

    A stop writes a checkpoint off the ``keep_every`` schedule. Pruning removes it once a newer
    checkpoint exists, so the remaining checkpoints do not depend on interruptions.
    """
    complete = checkpoints(folder)
    stray = [path for path in complete[:-1] if step_of(path) % keep_every]
    regular = [path for path in complete if path not in stray]
    for path in (*stray, *regular[:-keep]):
        # A complete name never refers to a partially removed folder.
        path.rename(path.with_name(f".{path.name}.0.tmp"))
    for path in sorted(folder.glob(".step-*.tmp")):
        shutil.rmtree(path)


def step_of(checkpoint: Path) -> int:
    """Parses the number of completed steps from a checkpoint's name."""
    return int(checkpoint.name.removeprefix("step-"))


def read_state(checkpoint: Path) -> CheckpointState:
    """Reads ``state.json`` of a checkpoint."""
    return CheckpointState.from_text((checkpoint / STATE).read_bytes())


def restore(
    checkpoint: Path, optimizer: AdapterOptimizer, identity: RunIdentity, dist: DistEnv
) -> TrainingProgress:
    """Restores the optimizer of every process from a checkpoint of the same run.

    The first process reads the files and broadcasts them, because other machines may lack them.

    Raises:
        BadConfig: a different run wrote the checkpoint; the message lists the differences.
    """
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in _PARTS}

    def read() -> CheckpointState:
        state = read_state(checkpoint)
        require_same_run(state.identity, identity)
        for name in _PARTS:
            parts[name] = safetensors.torch.load_file(checkpoint / f"{name}.safetensors")
        return state

    state = dist.first(read)
    raw, ema, state_tensors = (dist.broadcast_tensors(parts[name]) for name in _PARTS)
    optimizer.restore(raw, ema, state_tensors, state.optimizer)
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


def differences(before: RunIdentity, now: RunIdentity) -> str:
    """Formats differences in the versioned fields of two runs as ``key: before -> now; …``."""
    old, new = (dict(_leaves({"name": run.name, **versioned_fields(run)})) for run in (before, now))
    return "; ".join(
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    )


def versioned_fields(identity: RunIdentity) -> dict[str, Any]:
    """Returns the fields that determine a run's result, as plain JSON."""
    config = identity.config
    sections = {"base": config.base, "data": config.data, "train": config.train}
    return {
        "dataset": identity.dataset,
        "base": identity.base,
        "config": {name: section.identity_json() for name, section in sections.items()},
    }


def _leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(cast("dict[str, Any]", value), f"{path}{key}.")
        else:
            yield f"{path}{key}", value


class RemoteCheckpoints(NamedTuple):
    """Two-way sync between a work folder and an object store, so another machine can resume.

    Checkpoints, the metrics log, and sample sheets use the paths of the finished adapter. Until the
    manifest exists, only a run of the same version reads them. A local store needs no sync because
    its work folder is on the same disk.
    """

    store: Store
    path: str
    """Path of the adapter, relative to the store root."""

    folder: Path
    """Local folder of the running work."""

    def push(self) -> None:
        """Uploads new files and removes checkpoints that were pruned locally.

        A network failure does not stop training; the next checkpoint retries.
        """
        if self.store.is_local:
            return
        try:
            remote, local = self._remote(), checkpoints(self.folder / "checkpoints")
            for path in local:
                if path.name not in remote:
                    for file in sorted(path.iterdir(), key=lambda file: (file.name == STATE, file)):
                        self._send(file)
            self._send(self.folder / _METRICS)
            drawn = self.store.listdir(f"{self.path}/renders")
            for file in sorted((self.folder / "renders").glob("*.jpg")):
                if file.name not in drawn:
                    self._send(file)
            for name in remote - {path.name for path in local}:
                pruned = self.store.path(f"{self.path}/checkpoints/{name}")
                self.store.fs.rm_file(f"{pruned}/{STATE}")
                self.store.fs.rm(pruned, recursive=True)
        except (IcloraError, OSError) as error:
            log.warning("this checkpoint is on this machine alone: %s", error)

    def pull(self) -> None:
        """Downloads checkpoints missing locally, with the metrics log and sample sheets.

        Raises:
            IcloraError: the store is unreachable.
        """
        if self.store.is_local:
            return
        missing = self._remote() - {path.name for path in checkpoints(self.folder / "checkpoints")}
        for name in sorted(missing):
            scratch = self.folder / "checkpoints" / f".{name}.0.tmp"
            for file in self.store.listdir(f"{self.path}/checkpoints/{name}"):
                self._fetch(f"checkpoints/{name}/{file}", scratch / file)
            scratch.rename(scratch.with_name(name))
        if missing:
            sheets = [f"renders/{name}" for name in self.store.listdir(f"{self.path}/renders")]
            for relative in (_METRICS, *sheets):
                self._fetch(relative, self.folder / relative)
            url = redact_url(self.store.address(self.path))
            log.info("%d checkpoints came from %s", len(missing), url)

    def _remote(self) -> set[str]:
        folder = f"{self.path}/checkpoints"
        names = self.store.listdir(folder)
        return {name for name in names if self.store.exists(f"{folder}/{name}/{STATE}")}

    def _send(self, file: Path) -> None:
        relative = file.relative_to(self.folder).as_posix()
        self.store.write(f"{self.path}/{relative}", file.read_bytes())

    def _fetch(self, relative: str, file: Path) -> None:
        atomic_write(file, self.store.read(f"{self.path}/{relative}"))
