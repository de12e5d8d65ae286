"""Environment of a run: the store, and links to it from the UI."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from urllib.parse import quote

from prefect.runtime import deployment

from iclora.errors import BadConfig
from iclora.store import Store

STORE_ENV = "ICLORA_STORE"
"""Environment variable: the store of runs that name none, a folder or a URL."""

PAGES_ENV = "ICLORA_PAGES"
"""Environment variable: the address at which ``tasks.static_server`` shows the default store."""

PAGES_HOST = "ICLORA_PAGES_HOST"
"""Environment variable: address on which ``tasks.static_server`` listens; loopback unless it is
set, ``0.0.0.0`` for all networks."""


def resolve_store(store: str) -> str:
    """Returns the store that a run was given, else the environment's, else ``./store``.

    Raises:
        BadConfig: a deployment's run was not told where, or a folder that its machine removes. It
            runs wherever a worker is, and often in a folder that goes when it ends.
    """
    found = store or default_store()
    if "://" in found or not deployment.id:
        return found
    given = f"{'the parameter store' if store else STORE_ENV}={found}"
    if not store and not os.environ.get(STORE_ENV):
        said = "this run of a deployment was not told where its store is"
    elif not Path(found).is_absolute():
        said = f"{given} is relative, and would be another folder on every worker"
    elif _is_temporary(Path(found)):
        said = f"{given} is in the folder that the worker removes when this run ends"
    else:
        return found
    raise BadConfig(
        f"{said}: set {STORE_ENV} for the worker, or the run's parameter `store`, to an absolute "
        "folder or an s3:// address"
    )


def default_store() -> str:
    """Returns the store of runs that name none."""
    return os.environ.get(STORE_ENV, "") or "./store"


def _is_temporary(store: Path) -> bool:
    """Recognizes the folder that Prefect's process worker makes for a run and removes after it."""
    return any(
        folder.name.endswith("prefect") and folder.parent == Path(tempfile.gettempdir())
        for folder in store.parents
    )


def read_line(store: Store, path: str) -> str:
    """The one line of a file such as ``LATEST``; empty if it is not there."""
    return store.read(path).decode().strip() if store.exists(path) else ""


def link(store: Store, place: str, text: str) -> str:
    """Markdown that leads to a file or folder of the store.

    A browser opens no file of a disk from a page of a server, so local files need
    ``tasks.static_server``; without it, or for a store that it does not show, the place is named to
    be copied.
    """
    address = os.environ.get(PAGES_ENV, "")
    if address and Store(default_store()).root == store.root:
        return f"[{text}]({address}/{quote(place)})"
    return f"{text}: `{store.address(place)}`"
