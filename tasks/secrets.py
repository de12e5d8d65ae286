"""Secrets come from the environment or from Prefect's Secret blocks, never from parameters.

A variable that is not set is looked for in the block of its name: ``HF_TOKEN`` in the Secret block
``hf-token``. Parameters are shown in the UI and kept in the database; blocks are encrypted there.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from prefect.blocks.system import Secret

from schemas.config import Config
from schemas.job import BuildSetup

log = logging.getLogger("iclora.secrets")

OF_S3 = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def load_secrets(store: str, config: Config | None = None) -> None:
    """Puts into this process's environment, for it and its children, what a run may need.

    Args:
        store: URL; only one on S3 needs keys.
        config: names the captioner's key, if a captioner is used.
    """
    wanted = ["HF_TOKEN"]
    if store.startswith("s3:"):
        wanted += OF_S3
    if config is not None and config.caption.captioner.kind == "server":
        wanted.append(config.caption.captioner.api_key_env)
    for variable in wanted:
        if variable not in os.environ:
            _load(variable)


_ready: set[str] = set()


def load_secrets_once(setup: BuildSetup) -> None:
    """``load_secrets`` for the tasks of a build, once a process: on a cluster each has its own."""
    kind = f"{setup.store} {setup.config.caption.captioner.to_text()}"
    if kind not in _ready:
        load_secrets(setup.store, setup.config)
        _ready.add(kind)


def block_of(variable: str) -> str:
    """The Secret block of a variable: ``HF_TOKEN`` is in ``hf-token``."""
    return variable.lower().replace("_", "-")


def _load(variable: str) -> None:
    name = block_of(variable)
    try:
        block: Any = Secret.load(name)
    except ValueError:  # there is no such block
        return
    os.environ[variable] = str(block.get())
    log.info("%s comes from the Secret block %s", variable, name)
