"""Environment of a run: the store, links to it from the UI, and secrets.

Secrets come from the environment or from Prefect's Secret blocks, never from parameters, which the
UI shows and the database keeps. A variable that is not set is read from the block of its name:
``HF_TOKEN`` from ``hf-token``. Rejected: ``{{ prefect.blocks.secret.hf-token }}`` in the job
variables. `prefect deploy` stores the value in plain text there, a run fails if the block is
missing, and neither Ray's nodes nor ``python -m flows.build_dataset`` read job variables.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prefect.blocks.system import Secret
from prefect.runtime import deployment

from iclora.errors import BadConfig
from iclora.store import Store
from schemas.config import Config
from schemas.job import BuildSetup

log = logging.getLogger("iclora.environment")

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
    url = store or default_store()
    if "://" in url or not deployment.id:
        return url
    setting = f"{'the parameter store' if store else STORE_ENV}={url}"
    if not store and not os.environ.get(STORE_ENV):
        problem = "this run of a deployment was not told where its store is"
    elif not Path(url).is_absolute():
        problem = f"{setting} is relative, and would be another folder on every worker"
    # Prefect's process worker makes a temporary folder for a run and removes it afterwards.
    elif any(
        folder.name.endswith("prefect") and folder.parent == Path(tempfile.gettempdir())
        for folder in Path(url).parents
    ):
        problem = f"{setting} is in the folder that the worker removes when this run ends"
    else:
        return url
    raise BadConfig(
        f"{problem}: set {STORE_ENV} for the worker, or the run's parameter `store`, to an "
        "absolute folder or an s3:// address"
    )


def default_store() -> str:
    """Returns the store of runs that name none."""
    return os.environ.get(STORE_ENV, "") or "./store"


def read_line(store: Store, path: str) -> str:
    """Reads a file of one line, such as ``LATEST``; empty if it is not there."""
    return store.read(path).decode().strip() if store.exists(path) else ""


def link(store: Store, path: str, text: str) -> str:
    """Returns Markdown that leads to a file or folder of the store.

    A browser opens no local file from a server's page, so local files need ``tasks.static_server``;
    without it, or for a store that it does not show, the path is named to be copied.
    """
    address = os.environ.get(PAGES_ENV, "")
    if address and Store(default_store()).root == store.root:
        return f"[{text}]({address}/{quote(path)})"
    return f"{text}: `{store.address(path)}`"


def load_secrets(store: str, config: Config | None = None) -> None:
    """Puts the secrets that a run may need into this process's environment.

    Args:
        store: URL; only one on S3 needs keys.
        config: names the captioner's key, if a captioner is used.
    """
    wanted = ["HF_TOKEN"]
    if store.startswith("s3:"):
        wanted += ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    if config is not None and config.caption.captioner.kind == "server":
        wanted.append(config.caption.captioner.api_key_env)
    for variable in wanted:
        if variable in os.environ:
            continue
        name = variable.lower().replace("_", "-")
        try:
            block: Any = Secret.load(name)
        except ValueError:  # there is no such block
            continue
        os.environ[variable] = str(block.get())
        log.info("%s comes from the Secret block %s", variable, name)


_loaded: set[str] = set()


def load_secrets_once(setup: BuildSetup) -> None:
    """Loads the secrets of a build's tasks once per process; on a cluster each has its own."""
    key = f"{setup.store} {setup.config.caption.captioner.to_text()}"
    if key not in _loaded:
        load_secrets(setup.store, setup.config)
        _loaded.add(key)
