"""Artifacts that follow a run, updated in place by a thread, and pictures inside artifacts.

Every new artifact stays in the server's database, so they are updated. Showing never holds up or
fails the work: when the server is away, the next update shows everything again.
"""

from __future__ import annotations

import base64
import io
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
"""Seconds between two updates: at the start of a run, and of a long run."""

WIDTH, HEIGHT = 640, 960
"""Maximum size of a picture in pixels: artifacts live in the server's database."""

Kind = Literal["progress", "table", "markdown", "image"]


class LiveArtifact:
    """Artifact of a run, updated when it changes.

    Args:
        kind: type of the artifact.
        key: name in the UI; every other character than letters and digits becomes a dash.
    """

    def __init__(self, kind: Kind, key: str) -> None:
        self._kind, self._key = kind, artifact_key(key)
        self._id: UUID | None = None
        self._shown: tuple[Any, str] | None = None

    def show(self, data: Any, description: str) -> None:
        """Makes or updates the artifact, unless it shows this already."""
        data = json.dumps(data) if self._kind == "table" else data
        if self._shown == (data, description):
            return
        with get_client(sync_client=True) as client:
            if self._id is None:
                artifact = ArtifactCreate(
                    type=self._kind,
                    key=self._key,
                    description=description,
                    data=data,
                    flow_run_id=UUID(flow_run.id) if flow_run.id else None,
                )
                self._id = client.create_artifact(artifact).id
            else:
                client.update_artifact(self._id, ArtifactUpdate(data=data, description=description))
        self._shown = (data, description)


def artifact_key(name: str) -> str:
    """Makes a name an artifact's key: lower-case letters, digits and dashes."""
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in name.lower())


@contextmanager
def updating(update: Callable[[], None]) -> Generator[None]:
    """Calls ``update`` now and then while the block runs, and once however it ends."""
    over = Event()

    def try_update() -> None:
        try:
            update()
        except Exception as error:  # noqa: BLE001 - whatever a server or a half-written file says
            log.debug("progress is not shown: %s", error)

    def run() -> None:
        start = time.monotonic()
        while not over.wait(update_interval(time.monotonic() - start)):
            try_update()

    thread = Thread(target=copy_context().run, args=(run,), name="iclora-live", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(MAX_INTERVAL)
        try_update()


def update_interval(elapsed: float) -> float:
    """Computes the seconds until the next update of a run that has taken ``elapsed`` seconds."""
    return max(MIN_INTERVAL, min(MAX_INTERVAL, elapsed / 50))


def data_uri(picture: bytes) -> str:
    """Encodes a picture as a small JPEG data URI, which the UI shows without any other server.

    A sheet that is much higher than wide is cut off below: as a whole it could not be read.
    """
    from PIL import Image  # late: a flow is imported sooner

    with Image.open(io.BytesIO(picture)) as image:
        small = image.convert("RGB")
    small.thumbnail((WIDTH, small.height))
    small = small.crop((0, 0, small.width, min(small.height, HEIGHT)))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
