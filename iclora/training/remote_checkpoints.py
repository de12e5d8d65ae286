"""Checkpoint sync to an object store, so another machine can resume the run.

Checkpoints, the metrics log, and sample sheets use the paths of the finished adapter. Until the
manifest exists, only a run of the same version reads them. A local store needs no sync because its
work folder is on the same disk.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from iclora.errors import IcloraError
from iclora.redact import redact_url
from iclora.store import Store, atomic_write
from iclora.training.checkpoint import checkpoints

log = logging.getLogger(__name__)

STATE = "state.json"
"""Last file uploaded per checkpoint; its presence marks the checkpoint as complete."""

_METRICS = "metrics.jsonl"


class RemoteCheckpoints(NamedTuple):
    """Two-way sync between a local work folder and its path in a remote store."""

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
            self._push()
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
            self._fetch_checkpoint(name)
        if missing:
            self._fetch(_METRICS)
            for name in self.store.listdir(f"{self.path}/renders"):
                self._fetch(f"renders/{name}")
            place = redact_url(self.store.address(self.path))
            log.info("%d checkpoints came from %s", len(missing), place)

    def _remote(self) -> set[str]:
        where = f"{self.path}/checkpoints"
        names = self.store.listdir(where)
        return {name for name in names if self.store.exists(f"{where}/{name}/{STATE}")}

    def _push(self) -> None:
        there, here = self._remote(), checkpoints(self.folder / "checkpoints")
        for path in here:
            if path.name not in there:
                files = sorted(path.iterdir(), key=lambda file: (file.name == STATE, file.name))
                for file in files:
                    self._send(file)
        self._send(self.folder / _METRICS)
        drawn = self.store.listdir(f"{self.path}/renders")
        for file in sorted((self.folder / "renders").glob("*.jpg")):
            if file.name not in drawn:
                self._send(file)
        for name in there - {path.name for path in here}:
            gone = self.store.path(f"{self.path}/checkpoints/{name}")
            self.store.fs.rm_file(f"{gone}/{STATE}")
            self.store.fs.rm(gone, recursive=True)

    def _send(self, file: Path) -> None:
        relative = file.relative_to(self.folder).as_posix()
        self.store.write(f"{self.path}/{relative}", file.read_bytes())

    def _fetch(self, relative: str) -> None:
        atomic_write(self.folder / relative, self.store.read(f"{self.path}/{relative}"))

    def _fetch_checkpoint(self, name: str) -> None:
        scratch = f"checkpoints/.{name}.0.tmp"
        for file in self.store.listdir(f"{self.path}/checkpoints/{name}"):
            data = self.store.read(f"{self.path}/checkpoints/{name}/{file}")
            atomic_write(self.folder / scratch / file, data)
        (self.folder / scratch).rename(self.folder / "checkpoints" / name)
