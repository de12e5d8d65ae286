"""Training as Prefect runs it: a child process, so GPU memory is surely freed.

The task writes the resolved configuration and starts the same command a person would type; the
child's log streams into the run, and cancelling the run lets the child save before it ends.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import Any

from iclora.cpus import available_cpus
from iclora.models.loaded import unload_models
from iclora.names import check_name
from iclora.presets import load_config, require_preset
from iclora.store import Store, atomic_write
from schemas.adapter import AdapterRef
from schemas.job import TrainJob
from schemas.store_paths import adapter_path
from tasks import environment, gpu_locks
from tasks.prefect_defaults import run_name, stage_task, time_limit
from tasks.subprocess_task import ChildCommand, log, run_subprocess
from tasks.training_progress import show_training

LAUNCH = "ICLORA_LAUNCH"
"""Environment variable: options of ``accelerate launch`` in place of one process a GPU, such as
``--config_file fsdp.yaml``."""


@stage_task(name="plan training", task_run_name="plan training of {name}")
def plan_training(
    dataset: str, preset: str, base: str, name: str, store: str, overrides: dict[str, Any]
) -> TrainJob:
    """Resolves the settings."""
    check_name(name, "an adapter")
    home = environment.resolve_store(store)
    environment.load_secrets(home)
    config = load_config(preset, overrides, base=base)
    if not (preset or base):
        from iclora.dataset import open_dataset  # late: it imports decoders and arrays

        opened = open_dataset(Store(home), dataset)
        require_preset(preset, base, opened.manifest.config.preset)
    return TrainJob(store=Store(home).url, name=name, config=config, dataset=dataset)


@stage_task(name="train", task_run_name="train {job.name}", tags=["gpu"])
def train(job: TrainJob) -> AdapterRef:
    """Trains in a child process; a retry resumes from the last checkpoint."""
    unload_models()  # of a build before it in this process: the child measures what is free
    store = Store(job.store)
    config = store.work_folder / "jobs" / f"train-{job.name}-{job.fingerprint}.json"
    atomic_write(config, job.config.to_text().encode())
    command = [*launcher(), "iclora", "train", job.dataset, "--config", str(config)]
    command += ["--name", job.name, "--store", job.store, "--json"]
    log.info("by hand: %s", shlex.join(command))
    work = f"the training of {job.name}"
    with gpu_locks.acquire_devices(work, run_name()) as locks, show_training(job) as watch:
        answer = run_subprocess(
            ChildCommand(command, config.with_suffix(".log"), locks, time_limit())
        )
        adapter = json.loads(answer)
        place = adapter_path(job.name, version=adapter["version"])
        watch.end(place)
    return AdapterRef(
        name=job.name,
        version=adapter["version"],
        url=store.address(place),
        steps=adapter["steps"],
        loss=adapter["loss"],
        resumed_from=adapter["resumed_from"],
    )


def launcher() -> list[str]:
    """``accelerate launch`` with a process for every GPU, or as the environment says."""
    start = [sys.executable, "-m", "accelerate.commands.launch", "--quiet"]
    if given := os.environ.get(LAUNCH):
        return [*start, *shlex.split(given), "-m"]
    gpus = len(gpu_locks.gpus())
    threads = os.environ.get("OMP_NUM_THREADS") or max(1, available_cpus() // (gpus or 1))
    start += ["--num_processes", str(gpus or 1), "--num_machines", "1"]
    start += ["--num_cpu_threads_per_process", str(threads)]
    start += ["--mixed_precision", "no", "--dynamo_backend", "no"]  # the configuration's to say
    start += [] if gpus else ["--cpu"]
    return [*start, *(["--multi_gpu"] if gpus > 1 else []), "-m"]
