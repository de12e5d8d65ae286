"""``train.trainer = "ai-toolkit"``: an AI-Toolkit checkout trains, and we collect.

The dataset and the configuration are exported into the running work's folder, the checkout's
``run.py`` is started there as a child, and what it leaves becomes an adapter's folder like any
other. Its optimizer state is a pickle and stays behind.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import safetensors

from iclora.errors import BadConfig, IcloraError
from iclora.models.lora_files import read_lora
from iclora.training.ai_toolkit.export import LOGS, OUTPUT, export_ai_toolkit, refuse_ours_alone
from iclora.training.job import Job
from iclora.training.journal import Journal, final_loss
from iclora.training.lora import lora_config, lora_header, save_lora
from iclora.training.publish import facts, publish_folder, versions
from iclora.training.stop import StopRequest, TrainingInterrupted
from iclora.training.team import Team
from schemas.adapter import RunRecord
from schemas.config import Config

CHECKOUT = "ICLORA_AI_TOOLKIT"
"""Environment variable with the checkout's folder; a place is no part of what a run is."""

_PYTHONS = ("venv/bin/python", ".venv/bin/python")
_NAP_SECONDS = 0.2
_GRACE_SECONDS = 15.0
"""Between asking, asking again and killing; it saves nothing when it is stopped."""

log = logging.getLogger(__name__)


def train_there(job: Job, team: Team, request: StopRequest) -> None:
    """Trains with AI-Toolkit and publishes the adapter.

    Raises:
        BadConfig: no checkout is named, several processes were started, or AI-Toolkit cannot do
            what is asked.
        TrainingInterrupted: asked to stop; AI-Toolkit goes on from what it saved last.
        IcloraError: AI-Toolkit failed, or left no adapter.
    """
    checkout = _checkout()
    if team.size > 1:
        raise BadConfig("AI-Toolkit is started as one process: run without accelerate launch")
    refuse_ours_alone(job.config)
    name, place = job.identity.name, job.work / "ai-toolkit"
    if not place.is_dir():
        _export(job, place)
    began = time.perf_counter()
    _run([*_command(checkout), f"{name}.yml"], place, request)
    seconds = time.perf_counter() - began
    output = place / OUTPUT / name
    if not (output / f"{name}.safetensors").is_file():
        raise IcloraError(f"AI-Toolkit ended without {name}.safetensors in {output}")
    _journal(place / LOGS, job.work / "metrics.jsonl")
    publish_folder(
        job, _record(job, output, checkout, seconds), lambda folder: _collect(job, output, folder)
    )


def _checkout() -> Path:
    folder = os.environ.get(CHECKOUT, "")
    if not (Path(folder) / "run.py").is_file():
        raise BadConfig(
            f"train.trainer = 'ai-toolkit' needs {CHECKOUT} in the environment to name a checkout "
            f"of AI-Toolkit; {folder or 'nothing'} is none"
        )
    return Path(folder).resolve()


def _command(checkout: Path) -> list[str]:
    own = [checkout / python for python in _PYTHONS if (checkout / python).is_file()]
    return [str(own[0]) if own else sys.executable, str(checkout / "run.py")]


def _export(job: Job, place: Path) -> None:
    """Names the base by its folder here, so that both read the same revision."""
    base = job.config.base.model_copy(update={"model": str(job.base.folder)})
    config: Config = job.config.model_copy(update={"base": base})
    scratch = place.with_name(f"{place.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    export_ai_toolkit(job.dataset, scratch, config, name=job.identity.name)
    scratch.rename(place)


def _run(command: list[str], place: Path, request: StopRequest) -> None:
    """Runs the trainer; what it prints goes to stderr."""
    log.info("in %s: %s", place, " ".join(command))
    with subprocess.Popen(command, cwd=place, stdout=2, stderr=2, start_new_session=True) as child:
        while True:
            try:
                code = child.wait(_NAP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if request.asked:
                    _end(child)
                    raise TrainingInterrupted(
                        "stopped; AI-Toolkit goes on from what it saved last"
                    ) from None
    if code != 0:
        raise IcloraError(f"AI-Toolkit ended with code {code}; what it said is above")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Interrupts the trainer, then insists: what a shell put in the background ignores SIGINT."""
    for asked in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        child.send_signal(asked)
        try:
            child.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def _journal(logs: Path, file: Path) -> None:
    """Turns TensorBoard's events into our rows; a step that was repeated counts once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows: dict[int, dict[str, Any]] = {}
    for folder in sorted(path for path in logs.glob("*") if path.is_dir()):
        events: Any = EventAccumulator(str(folder)).Reload()
        for tag in {"loss", "lr"} & set(events.Tags()["scalars"]):
            for event in events.Scalars(tag):  # counted from 0
                row = rows.setdefault(event.step + 1, {"step": event.step + 1, "loss": None})
                row[tag] = event.value
    journal = Journal(file, 0)
    for step in sorted(rows):
        journal.write(rows[step])
    journal.close()


def _collect(job: Job, output: Path, folder: Path) -> None:
    name, lora = job.identity.name, job.config.train.lora
    tensors = read_lora(output / f"{name}.safetensors", job.family)
    header = lora_header(lora_config(job.family, lora.rank), facts(job, _steps(output, name)))
    save_lora(folder / f"{name}.safetensors", tensors, header, lora.save_as)
    for path in output.glob(f"{name}_*.safetensors"):
        (folder / "checkpoints").mkdir(exist_ok=True)
        shutil.copy2(path, folder / "checkpoints" / path.name)
    if (output / "samples").is_dir():
        shutil.copytree(output / "samples", folder / "renders")


def _steps(output: Path, name: str) -> int:
    """What the file says of its training."""
    with safetensors.safe_open(output / f"{name}.safetensors", "pt") as file:  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue, reportUnknownVariableType] - untyped module
        said = cast("dict[str, str]", file.metadata() or {})
    return int(json.loads(said.get("training_info", "{}")).get("step", 0))


def _record(job: Job, output: Path, checkout: Path, seconds: float) -> RunRecord:
    identity = job.identity
    return RunRecord(
        name=identity.name,
        version=identity.version,
        dataset=identity.dataset,
        base=identity.base,
        preview=job.dataset.manifest.preview,
        config=job.config,
        steps=_steps(output, identity.name),
        loss=final_loss(job.work / "metrics.jsonl"),
        seconds=round(seconds, 3),
        plan="trained by AI-Toolkit",
        versions=versions() | {"ai-toolkit": _commit(checkout)},
    )


def _commit(checkout: Path) -> str:
    asked = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"
