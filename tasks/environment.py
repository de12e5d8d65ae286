"""Where a run keeps things, and how a person gets there from the UI."""

from __future__ import annotations

import os
from urllib.parse import quote

from iclora.store import Store

STORE_ENV = "ICLORA_STORE"
"""Environment variable: the store of runs that name none, a folder or a URL."""

PAGES_ENV = "ICLORA_PAGES"
"""Environment variable: the address at which ``tasks.static_server`` shows the default store."""


def resolve_store(store: str) -> str:
    """The store that a run was given, else the environment's, else ``./store``."""
    return store or os.environ.get(STORE_ENV, "") or "./store"


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
    if address and Store(resolve_store("")).root == store.root:
        return f"[{text}]({address}/{quote(place)})"
    return f"{text}: `{store.address(place)}`"
