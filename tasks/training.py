"""Training as Prefect runs it: a child process, so GPU memory is surely freed.

The task writes the resolved configuration and starts the same command a person would type; the
child's log streams into the run, and cancelling the run lets the child save before it ends.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from iclora.presets import load_config
from iclora.store import Store
from schemas.adapter import AdapterRef
from schemas.job import TrainJob
from tasks.child import run_child
from tasks.names import stage_task


@stage_task(name="plan training")
def plan_training(
    dataset: str, preset: str, name: str, store: str, overrides: dict[str, Any]
) -> TrainJob:
    """Resolves the settings."""
    return TrainJob(store=store, name=name, config=load_config(preset, overrides), dataset=dataset)


@stage_task(name="train", task_run_name="train {job.name}", tags=["gpu"])
def train(job: TrainJob) -> AdapterRef:
    """Trains in a child process; a retry resumes from the last checkpoint."""
    relative = f"jobs/train-{job.fingerprint}.json"
    store = Store(job.store)
    config = store.work / relative
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(job.config.to_text(), encoding="utf-8")
    command = [sys.executable, "-m", "iclora", "train", job.dataset, "--config", str(config)]
    answer = run_child([*command, "--name", job.name, "--store", job.store, "--json"])
    adapter = json.loads(answer)
    return AdapterRef(
        name=job.name,
        version=adapter["version"],
        url=store.address(f"adapters/{job.name}/{adapter['version']}"),
        steps=adapter["steps"],
        loss=adapter["loss"],
        resumed_from=adapter["resumed_from"],
    )
