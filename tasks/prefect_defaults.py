"""Defaults of our Prefect tasks, and the task runner of a build.

Completion belongs to the artifact: a stage whose manifest is there is done, whoever asks. So no
task keeps results or caches in Prefect; a retry or a rerun finds the stages and goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from iclora.cpus import available_cpus
from iclora.errors import BadConfig, BuildStopped, UserError
from tasks.subprocess_task import ChildTimeout


def is_retryable(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Decides if a retry may help: not after a user's mistake, nor after a timeout."""
    try:
        state.result()
    except (UserError, BuildStopped, ChildTimeout):
        return False
    except Exception:  # noqa: BLE001 - whatever else went wrong may be gone
        return True
    return True


TAG = "iclora"
"""Tag of every run that is ours: a server may be a whole team's. Deployments have it; runs that a
flow starts do not inherit it, so the flow sets it again."""

GPU = "gpu"
"""Tag of runs that use a GPU."""

stage_task = partial(
    prefect.task,
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=is_retryable,
)

HOURS_ENV = "ICLORA_HOURS"
"""Environment variable: maximum hours of a training or an evaluation; unset is no limit. A run that
is stopped has saved, and the next run resumes there."""

RUNNER_ENV = "ICLORA_RUNNER"
"""Environment variable: ``threads``, ``ray``, or the address of a Ray cluster such as
``head:6379`` or ``ray://head:10001``."""

RAY_ENV = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
"""Environment variables that Ray's nodes are sent, because they say where the store is. Never a
secret: Ray writes what it sends into its logs and shows it in its dashboard."""


def time_limit() -> float:
    """Returns the maximum seconds of a child process; 0 is no limit.

    Raises:
        BadConfig: the setting is no number.
    """
    hours = os.environ.get(HOURS_ENV, "").strip() or "0"
    try:
        return float(hours) * 3600
    except ValueError as error:
        raise BadConfig(f"{HOURS_ENV}={hours} is no number of hours") from error


def run_name() -> str:
    """Returns the name of this run in the UI."""
    return f"run {flow_run.name or 'without a server'}"


def task_runner() -> Any:
    """Returns the task runner of a build: threads of this machine, or a Ray cluster.

    Either way one task run is a step on one source or on a batch of small ones, so a machine that
    is lost loses one step of the sources in progress on it.

    Typed Any because ``flow`` asks for a runner of every kind of future, which none is.

    Raises:
        BadConfig: the setting means nothing, or Ray is asked for and not installed.
    """
    chosen = _runner_setting()
    if chosen == "threads":
        # Decoding, CLIP and encoding release the interpreter's lock.
        return ThreadPoolTaskRunner(max_workers=available_cpus())
    if chosen != "ray" and ":" not in chosen:
        raise BadConfig(
            f"{RUNNER_ENV}={chosen} means nothing: use threads, ray or the address of a Ray "
            "cluster such as head:6379"
        )
    try:
        from prefect_ray import (  # pyright: ignore[reportMissingImports] - the extra `ray`
            RayTaskRunner,
        )
    except ImportError as error:
        raise BadConfig(f"{RUNNER_ENV} asks for Ray: pip install --editable '.[ray]'") from error
    environment = {
        "worker_process_setup_hook": _chdir_to(Path.cwd()),
        "env_vars": {name: os.environ[name] for name in RAY_ENV if name in os.environ},
    }
    # Without an address Ray goes where RAY_ADDRESS says, or is started on this machine.
    address = None if chosen == "ray" else chosen
    return RayTaskRunner(address, {"runtime_env": environment})


def max_concurrent_runs() -> int:
    """Returns the number of concurrent task runs: one per core of this machine or of Ray.

    Ray is asked in a flow, which has started it or joined it; nodes that come later do not count.
    """
    if _runner_setting() == "threads":
        return available_cpus()
    import ray  # pyright: ignore[reportMissingImports] - the extra `ray`

    return max(1, int(ray.cluster_resources().get("CPU", 0)))


def _runner_setting() -> str:
    return os.environ.get(RUNNER_ENV, "").strip() or "threads"


def _chdir_to(folder: Path) -> Callable[[], None]:
    """Ray's processes start in their node's folder, where relative paths would mean others."""

    def change_folder() -> None:
        if folder.is_dir():
            os.chdir(folder)

    return change_folder
