"""A training in other processes, for tests that kill it or run it on several.

Its own module because the processes that run it import it by name. A server that has torch loaded
but no thread started forks them: that spares each the seconds of importing, and forking the test
process itself, in which other tests started threads, can hang.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

import iclora.training.run
import iclora.training.run_inputs  # noqa: F401 - the server that forks children has it loaded
from iclora.store import Store
from iclora.training import train_adapter
from iclora.training.signals import TrainingInterrupted
from schemas.config import Config

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["training_child"])


def work(url: str, config: str, delay: float, options: dict[str, Any]) -> None:
    """Trains ``mine`` on ``demo``; ``delay`` slows every step down."""
    import torch

    torch.set_num_threads(1)
    try:
        train_adapter(
            Store(url),
            "demo",
            Config.from_text(config),
            "mine",
            progress=lambda _: time.sleep(delay),
            **options,
        )
    except TrainingInterrupted as stop:
        os._exit(stop.exit_code)
    os._exit(0)


def work_together(
    rank: int, count: int, port: str, url: str, config: str, environment: dict[str, str]
) -> None:
    """One of ``count`` processes of a training, as ``accelerate launch`` would start it."""
    import torch

    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=port, ACCELERATE_USE_CPU="true", **environment,
    )  # fmt: skip
    train_adapter(Store(url), "demo", Config.from_text(config), "mine")
    torch.distributed.destroy_process_group()
    os._exit(0)
