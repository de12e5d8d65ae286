"""From a finished training to the adapter's folder in the store."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from iclora.store import file_sha256
from iclora.training.card import write_card
from iclora.training.job import Job
from iclora.training.journal import BOARD
from iclora.training.loop import Parts
from iclora.training.lora import lora_header, save_lora
from schemas.adapter import AdapterManifest, RunRecord

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "iclora")


def versions() -> dict[str, str]:
    """Of the libraries that a result depends on."""
    return {library: importlib.metadata.version(library) for library in LIBRARIES}


def publish(job: Job, record: RunRecord, parts: Parts) -> None:
    """Writes the folder of an adapter that was trained here."""
    name, learner = job.identity.name, parts.machine.learner
    settings = parts.machine.transformer.peft_config["default"]
    header = lora_header(settings, facts(job, record.steps))

    def fill(folder: Path) -> None:
        dtype = job.config.train.lora.save_as
        save_lora(folder / f"{name}.safetensors", learner.average, header, dtype)
        save_lora(folder / f"{name}-raw.safetensors", learner.tensors, header, dtype)
        for part in ("checkpoints", "renders"):
            if (job.work / part).is_dir():
                shutil.copytree(job.work / part, folder / part, copy_function=link_or_copy)

    publish_folder(job, record, fill)


def publish_folder(job: Job, record: RunRecord, fill: Callable[[Path], None]) -> None:
    """Writes an adapter's folder, manifest last, and makes it the latest.

    Args:
        job: the run; its running work is removed at the end.
        record: ``run.json``, and what the card says.
        fill: puts in the weights and what else there is.
    """
    name, version = job.identity.name, job.identity.version
    with job.store.folder(job.place) as folder:
        fill(folder)
        shutil.copy2(job.work / "metrics.jsonl", folder / "metrics.jsonl")
        shutil.copytree(job.work / BOARD, folder / BOARD)
        (folder / "run.json").write_text(record.to_text(), encoding="utf-8")
        write_card(folder / "README.md", record, job.dataset.manifest)
        digests = {
            str(path.relative_to(folder)): file_sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        manifest = AdapterManifest(name=name, version=version, digests=digests)
        (folder / "manifest.json").write_text(manifest.to_text(), encoding="utf-8")
    job.store.write(f"adapters/{name}/LATEST", f"{version}\n".encode())
    shutil.rmtree(job.work)


def facts(job: Job, step: int) -> dict[str, str]:
    """What the header of an adapter's file says of its run."""
    return {
        **job.config.train.lora.notes,
        "iclora_version": job.identity.version,
        "iclora_dataset": job.identity.dataset,
        "iclora_base": job.identity.base,
        "iclora_step": str(step),
    }


def link_or_copy(source: str, target: str) -> str:
    """A hard link where both are on one disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
