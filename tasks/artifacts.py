"""Artifacts that follow a run: made once, then updated in place, by a thread at a modest rate.

A thread, because the run itself is busy or waits; updated, because every new artifact stays in the
server's database. Showing never holds up or fails the work: when the server is away, the next
update shows everything again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, Thread
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.runtime import flow_run

log = logging.getLogger("iclora.artifacts")

MIN_INTERVAL, MAX_INTERVAL = 2.0, 30.0
"""Seconds between two updates, of a run that just began and of a long one."""

_SHARE = 50
"""An update after each fiftieth part of the time that a run has taken so far."""

Kind = Literal["progress", "table", "markdown", "image"]


class LiveArtifact:
    """One artifact of a run, shown again whenever it changed.

    Args:
        kind: of the artifact.
        key: its name in the UI; lower-case letters, digits and dashes.
    """

    def __init__(self, kind: Kind, key: str) -> None:
        self._kind, self._key = kind, artifact_key(key)
        self._id: UUID | None = None
        self._shown: tuple[Any, str] | None = None

    def show(self, data: Any, description: str) -> None:
        """Makes or updates the artifact, unless it says this already."""
        data = json.dumps(data) if self._kind == "table" else data
        if self._shown == (data, description):
            return
        with get_client(sync_client=True) as client:
            if self._id is None:
                made = client.create_artifact(
                    ArtifactCreate(
                        type=self._kind,
                        key=self._key,
                        description=description,
                        data=data,
                        flow_run_id=UUID(flow_run.id) if flow_run.id else None,
                    )
                )
                self._id = made.id
            else:
                client.update_artifact(self._id, ArtifactUpdate(data=data, description=description))
        self._shown = (data, description)


def artifact_key(name: str) -> str:
    """A name as Prefect wants an artifact's key: lower-case letters, digits and dashes."""
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in name.lower())


@contextmanager
def updating(update: Callable[[], None]) -> Generator[None]:
    """Calls ``update`` now and then while the block runs, and once however it ends."""
    over = Event()

    def run() -> None:
        began = time.monotonic()
        while not over.wait(update_interval(time.monotonic() - began)):
            _try(update)

    thread = Thread(target=copy_context().run, args=(run,), name="iclora-live", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(MAX_INTERVAL)
        _try(update)


def update_interval(elapsed: float) -> float:
    """Seconds until the next update of a run that has taken ``elapsed`` seconds."""
    return max(MIN_INTERVAL, min(MAX_INTERVAL, elapsed / _SHARE))


def _try(update: Callable[[], None]) -> None:
    try:
        update()
    except Exception as error:  # noqa: BLE001 - whatever a server or a half-written file says
        log.debug("progress is not shown: %s", error)
