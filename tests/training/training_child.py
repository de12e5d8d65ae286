"""A training in other processes, for tests that kill it or run it on several.

Its own module because the processes that run it import it by name. A server that has torch loaded
but no thread started forks them: that spares each the seconds of importing, and forking the test
process itself, in which other tests started threads, can hang.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from iclora.models.families.flux1 import Flux1
from iclora.store import Store
from iclora.train import train_adapter
from iclora.training.run import build_trainer  # the server that forks children has it loaded
from iclora.training.run_inputs import fill_caches, open_job, read_training_data
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


class Sick(Flux1):
    """Answers NaN on the given calls, counted from 1."""

    def __init__(self, calls):
        self.calls, self.count = calls, 0

    def predict(self, *arguments, **options):
        self.count += 1
        velocity = super().predict(*arguments, **options)
        return velocity * float("nan") if self.count in self.calls else velocity


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_together(
    out: Path, work: Callable[..., Any], *arguments: Any, environments: Sequence[Mapping[str, str]]
) -> list[Any]:
    """Starts a process for every environment, as ``accelerate launch`` would start them.

    Each calls ``work(rank, *arguments)``, a function of this module; what it gives is then in
    ``out/<rank>.json``, or the type, sentence and exit status of what it raised.
    """
    count, port = len(environments), free_port()
    processes = [
        FORKS.Process(target=_join, args=(rank, count, port, more, out, work, arguments))
        for rank, more in enumerate(environments)
    ]
    for process in processes:
        process.start()
    return processes


def _join(rank, count, port, environment, out, work, arguments):
    import torch

    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), ACCELERATE_USE_CPU="true", **environment,
    )  # fmt: skip
    try:
        made = work(rank, *arguments)
    except Exception as error:  # noqa: BLE001 - it is what the test looks at
        made = [type(error).__name__, str(error), getattr(error, "exit_code", None)]
    (out / f"{rank}.json").write_text(json.dumps(made))
    torch.distributed.destroy_process_group()
    os._exit(0)


def train_together(rank: int, url: str, configs: Sequence[str], delay: float = 0.0) -> str:
    """Trains ``mine`` on ``demo``, by a configuration for each rank or one for all."""
    ref = train_adapter(
        Store(url),
        "demo",
        Config.from_text(configs[rank % len(configs)]),
        "mine",
        progress=lambda _: time.sleep(delay),
    )
    return f"{ref.version} after {ref.resumed_from}"


def fall_ill_together(_rank: int, url: str, config: str) -> list[Any]:
    """Trains until three bad steps were taken back: the steps, and the weights' digest."""
    import hashlib

    from iclora.training.distributed import DistEnv
    from iclora.training.signals import StopRequest

    dist = DistEnv()
    job = open_job(Store(url), "demo", Config.from_text(config), "mine")
    material = read_training_data(job.dataset, job.config.data, job.config.train, 8)
    dist.first(lambda: fill_caches(job, material, dist.device))
    loop = build_trainer(job._replace(family=Sick({3, 4, 5})), material, dist)
    loop.train(StopRequest(), lambda _: None)
    digest = hashlib.sha256()
    for part in (loop.context.optimizer.tensors, loop.context.optimizer.ema):
        for tensor in part.values():
            digest.update(tensor.detach().numpy().tobytes())
    return [loop.progress.step, loop.progress.rollbacks, digest.hexdigest()]


def fail_together(rank: int, faults: Mapping[int, str]) -> None:
    """Raises by rank: ``bad`` is a person's mistake, ``bug`` is none."""
    from iclora.errors import BadConfig
    from iclora.training.distributed import DistEnv

    with DistEnv().together():
        if faults.get(rank) == "bad":
            raise BadConfig(f"too little memory at rank {rank}")
        if faults.get(rank) == "bug":
            raise ZeroDivisionError
