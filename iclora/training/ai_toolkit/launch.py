"""Training with an AI-Toolkit checkout (``train.trainer = "ai-toolkit"``).

The dataset and configuration are exported to the work folder, the checkout's ``run.py`` runs there
as a child process, and its outputs are published as an adapter. The optimizer state is a pickle and
is not published.
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
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import safetensors

from iclora.errors import BadConfig, IcloraError
from iclora.models.lora_files import read_lora
from iclora.training.ai_toolkit.export import LOGS, OUTPUT, export_ai_toolkit, require_supported
from iclora.training.distributed import DistEnv
from iclora.training.lora import lora_config, lora_header, save_lora
from iclora.training.metrics import MetricsLog, final_loss
from iclora.training.publish import facts, library_versions, publish_folder
from iclora.training.run_inputs import RunInputs
from iclora.training.signals import StopRequest, TrainingInterrupted
from schemas.adapter import RunRecord

CHECKOUT = "ICLORA_AI_TOOLKIT"
"""Environment variable with the checkout's folder, which is not part of a run's identity."""

_PYTHONS = ("venv/bin/python", ".venv/bin/python")
_POLL_SECONDS = 0.2
_GRACE_SECONDS = 15.0
"""Seconds between SIGINT, SIGTERM, and SIGKILL; AI-Toolkit saves nothing when stopped."""

log = logging.getLogger(__name__)


def train_with_ai_toolkit(inputs: RunInputs, dist: DistEnv, request: StopRequest) -> None:
    """Trains with AI-Toolkit and publishes the adapter.

    Raises:
        BadConfig: no checkout is configured, the run has several processes, or AI-Toolkit does not
            support a setting.
        TrainingInterrupted: a stop was requested; AI-Toolkit resumes from its last save.
        IcloraError: AI-Toolkit failed or produced no adapter.
    """
    configured = os.environ.get(CHECKOUT, "")
    checkout = Path(configured).resolve()
    if not (checkout / "run.py").is_file():
        raise BadConfig(
            f"train.trainer = 'ai-toolkit' needs {CHECKOUT} in the environment to name a checkout "
            f"of AI-Toolkit; {configured or 'nothing'} is none"
        )
    if dist.world_size > 1:
        raise BadConfig("AI-Toolkit is started as one process: run without accelerate launch")
    require_supported(inputs.config)
    name, folder = inputs.identity.name, inputs.work_folder / "ai-toolkit"
    if not folder.is_dir():
        # The base's local folder makes AI-Toolkit read the same revision.
        base = inputs.config.base.model_copy(update={"model": str(inputs.base.folder)})
        config = inputs.config.model_copy(update={"base": base})
        scratch = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        export_ai_toolkit(inputs.dataset, scratch, config, name=name)
        scratch.rename(folder)
    pythons = [checkout / path for path in _PYTHONS if (checkout / path).is_file()]
    python = pythons[0] if pythons else sys.executable
    began = time.perf_counter()
    _run([str(python), str(checkout / "run.py"), f"{name}.yml"], folder, request)
    seconds = time.perf_counter() - began
    output = folder / OUTPUT / name
    if not (output / f"{name}.safetensors").is_file():
        raise IcloraError(f"AI-Toolkit ended without {name}.safetensors in {output}")
    _convert_log(folder / LOGS, inputs.work_folder / "metrics.jsonl")
    publish_folder(
        inputs,
        _record(inputs, output, checkout, seconds),
        lambda target: _collect(inputs, output, target),
    )


def _run(command: list[str], folder: Path, request: StopRequest) -> None:
    """Runs the trainer, redirecting its output to stderr."""
    log.info("in %s: %s", folder, " ".join(command))
    with subprocess.Popen(command, cwd=folder, stdout=2, stderr=2, start_new_session=True) as child:
        while True:
            try:
                code = child.wait(_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if request.requested:
                    _end(child)
                    raise TrainingInterrupted(
                        "stopped; AI-Toolkit goes on from what it saved last"
                    ) from None
    if code != 0:
        raise IcloraError(f"AI-Toolkit ended with code {code}; what it said is above")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Stops the trainer, escalating signals because background processes ignore SIGINT."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_SECONDS)
            return


def _convert_log(logs: Path, file: Path) -> None:
    """Converts TensorBoard events to metrics rows, merging repeated steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows: dict[int, dict[str, Any]] = {}
    for folder in sorted(path for path in logs.glob("*") if path.is_dir()):
        events: Any = EventAccumulator(str(folder)).Reload()
        for tag in {"loss", "lr"} & set(events.Tags()["scalars"]):
            for event in events.Scalars(tag):  # 0-based steps
                row = rows.setdefault(event.step + 1, {"step": event.step + 1, "loss": None})
                row[tag] = event.value
    metrics = MetricsLog(file, 0)
    for step in sorted(rows):
        metrics.write(rows[step])
    metrics.close()


def _collect(inputs: RunInputs, output: Path, folder: Path) -> None:
    name, lora = inputs.identity.name, inputs.config.train.lora
    tensors = read_lora(output / f"{name}.safetensors", inputs.family)
    header = lora_header(lora_config(inputs.family, lora.rank), facts(inputs, _steps(output, name)))
    save_lora(folder / f"{name}.safetensors", tensors, header, lora.save_dtype)
    for path in output.glob(f"{name}_*.safetensors"):
        (folder / "checkpoints").mkdir(exist_ok=True)
        shutil.copy2(path, folder / "checkpoints" / path.name)
    if (output / "samples").is_dir():
        shutil.copytree(output / "samples", folder / "renders")


def _steps(output: Path, name: str) -> int:
    """Reads the number of completed steps from the adapter's metadata."""
    with safetensors.safe_open(output / f"{name}.safetensors", "pt") as file:  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue, reportUnknownVariableType] - untyped module
        metadata = cast("dict[str, str]", file.metadata() or {})
    return int(json.loads(metadata.get("training_info", "{}")).get("step", 0))


def _record(inputs: RunInputs, output: Path, checkout: Path, seconds: float) -> RunRecord:
    identity = inputs.identity
    head = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return RunRecord(
        name=identity.name,
        version=identity.version,
        dataset=identity.dataset,
        base=identity.base,
        preview=inputs.dataset.manifest.preview,
        config=inputs.config,
        steps=_steps(output, identity.name),
        loss=final_loss(inputs.work_folder / "metrics.jsonl"),
        seconds=round(seconds, 3),
        plan="trained by AI-Toolkit",
        versions=library_versions() | {"ai-toolkit": head.stdout.strip() or "unknown"},
    )
