"""Publication of a trained adapter to the store."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from iclora.store import file_sha256
from iclora.training.adapter_card import write_card
from iclora.training.lora import lora_header, save_lora
from iclora.training.metrics import TENSORBOARD
from iclora.training.run_inputs import RunInputs
from iclora.training.trainer import TrainerParts
from schemas.adapter import AdapterManifest, RunRecord
from schemas.store_paths import adapter_path

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "iclora")


def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries that affect results."""
    return {library: importlib.metadata.version(library) for library in LIBRARIES}


def publish(inputs: RunInputs, record: RunRecord, parts: TrainerParts) -> None:
    """Publishes an adapter trained by iclora."""
    name, optimizer = inputs.identity.name, parts.context.optimizer
    settings = parts.context.transformer.peft_config["default"]
    header = lora_header(settings, facts(inputs, record.steps))

    def fill(folder: Path) -> None:
        dtype = inputs.config.train.lora.save_dtype
        save_lora(folder / f"{name}.safetensors", optimizer.ema, header, dtype)
        save_lora(folder / f"{name}-raw.safetensors", optimizer.tensors, header, dtype)
        for part in ("checkpoints", "renders"):
            if (inputs.work_folder / part).is_dir():
                shutil.copytree(
                    inputs.work_folder / part, folder / part, copy_function=link_or_copy
                )

    publish_folder(inputs, record, fill)


def publish_folder(inputs: RunInputs, record: RunRecord, fill: Callable[[Path], None]) -> None:
    """Writes an adapter folder, manifest last, and marks it as the latest version.

    Args:
        inputs: inputs of the run, whose work folder is removed at the end.
        record: record written to ``run.json`` and summarized in the model card.
        fill: callback that writes the weights and other artifacts into the folder.
    """
    name, version = inputs.identity.name, inputs.identity.version
    with inputs.store.atomic_folder(inputs.path) as folder:
        fill(folder)
        shutil.copy2(inputs.work_folder / "metrics.jsonl", folder / "metrics.jsonl")
        shutil.copytree(inputs.work_folder / TENSORBOARD, folder / TENSORBOARD)
        (folder / "run.json").write_text(record.to_text(), encoding="utf-8")
        write_card(folder / "README.md", record, inputs.dataset.manifest)
        digests = {
            str(path.relative_to(folder)): file_sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        manifest = AdapterManifest(name=name, version=version, digests=digests)
        (folder / "manifest.json").write_text(manifest.to_text(), encoding="utf-8")
    inputs.store.write(adapter_path(name, "LATEST"), f"{version}\n".encode())
    shutil.rmtree(inputs.work_folder)


def facts(inputs: RunInputs, step: int) -> dict[str, str]:
    """Returns the run metadata for the header of an adapter file."""
    return {
        **inputs.config.train.lora.metadata,
        "iclora_version": inputs.identity.version,
        "iclora_dataset": inputs.identity.dataset,
        "iclora_base": inputs.identity.base,
        "iclora_step": str(step),
    }


def link_or_copy(source: str, target: str) -> str:
    """Hard-links a file, or copies it if linking fails."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
