"""Training as Prefect runs it: a child process, so that its GPU memory is surely freed.

The task writes the resolved configuration and starts the command that a person would type.
Cancelling the run lets the child save before it ends.
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
from iclora.train import runs_in_one_process
from schemas.adapter import AdapterRef
from schemas.job import TrainJob
from schemas.training import TrainParams
from tasks import environment
from tasks.artifacts import updating
from tasks.gpu_locks import acquire_devices, gpus
from tasks.prefect_defaults import run_name, stage_task, time_limit
from tasks.subprocess_task import log, run_subprocess
from tasks.training_progress import TrainingArtifacts

LAUNCH = "ICLORA_LAUNCH"
"""Environment variable: options of ``accelerate launch`` in place of one process per GPU, such as
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
    folder = Store(job.store).work_folder / "jobs"
    config_file = folder / f"train-{job.name}-{job.fingerprint}.json"
    atomic_write(config_file, job.config.to_text().encode())
    command = [*launcher(job.config.train), "iclora", "train", job.dataset]
    command += ["--config", str(config_file), "--name", job.name, "--store", job.store, "--json"]
    log.info("by hand: %s", shlex.join(command))
    artifacts = TrainingArtifacts(job)
    with (
        acquire_devices(f"the training of {job.name}", run_name()) as locks,
        updating(artifacts.show),
    ):
        answer = run_subprocess(
            command, config_file.with_suffix(".log"), locks=locks, seconds=time_limit()
        )
        facts = json.loads(answer)
        adapter = AdapterRef.from_json({"name": facts.pop("adapter"), **facts})
        artifacts.end(adapter)
    return adapter


def launcher(params: TrainParams) -> list[str]:
    """Returns the start of the command: ``python -m``, or ``accelerate launch`` for many GPUs."""
    if runs_in_one_process(params):
        return [sys.executable, "-m"]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet"]
    if options := os.environ.get(LAUNCH):
        return [*command, *shlex.split(options), "-m"]
    devices = gpus()
    processes = len(devices) or 1
    threads = os.environ.get("OMP_NUM_THREADS") or max(1, available_cpus() // processes)
    command += ["--num_processes", str(processes), "--num_machines", "1"]
    command += ["--num_cpu_threads_per_process", str(threads)]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no"]  # the configuration's to say
    command += [] if devices else ["--cpu"]
    return [*command, *(["--multi_gpu"] if processes > 1 else []), "-m"]
