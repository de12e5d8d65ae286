"""Publication of a trained adapter to the store, with its model card."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from iclora.models.locate import is_demo
from iclora.store import file_sha256
from iclora.training.lora import lora_header, save_lora
from iclora.training.metrics import TENSORBOARD
from iclora.training.run_inputs import RunInputs
from iclora.training.train_step import StepContext
from schemas.adapter import AdapterManifest, RunRecord
from schemas.dataset import DatasetManifest
from schemas.store_paths import adapter_path

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "iclora")

_CARD = """\
---
tags:
- lora
- text-to-image
- in-context-lora
- {family}
base_model: {base}
library_name: diffusers
---
# {name}

An In-Context LoRA: it draws sets of {panels} pictures on one canvas ({layout}, {width}x{height} px,
panels {markers}).

| | |
|---|---|
| base | `{revision}` |
| dataset | `{dataset}`: {samples} samples |
| steps | {steps} at batch {batch}, rank {rank}, seed {seed} |
| loss | {loss:.4f} (mean of the last tenth) |
| validation | {validation} |
{warnings}
## Use

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{base}")
pipe.load_lora_weights(".", weight_name="{name}.safetensors")
picture = pipe("{example}", width={width}, height={height}).images[0]
```

{files} `run.json` says how they were made.
"""


def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries that affect results."""
    return {library: importlib.metadata.version(library) for library in LIBRARIES}


def publish(inputs: RunInputs, record: RunRecord, context: StepContext) -> None:
    """Publishes an adapter trained by iclora."""
    name, optimizer = inputs.identity.name, context.optimizer
    settings = context.transformer.peft_config["default"]
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
        card = model_card(record, inputs.dataset.manifest)
        (folder / "README.md").write_text(card, encoding="utf-8")
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


def model_card(record: RunRecord, dataset: DatasetManifest) -> str:
    """Formats the adapter's ``README.md``."""
    config, layout, name = record.config, dataset.config.layout, record.name
    markers = [f"{marker} …" for marker in layout.markers]
    warnings: list[str] = []
    if is_demo(config.base.model):
        warnings.append("The base is the miniature: small pictures, for trying things out.")
    if record.preview:
        warnings.append("The dataset is a preview: its captions or scores come from the miniature.")
    if record.skipped:
        warnings.append(f"{record.skipped} steps had no finite loss and were skipped.")
    files = (
        f"`{name}.safetensors` holds the moving average of the weights, `{name}-raw.safetensors` "
        f"the last\nones; both have alpha = rank."
    )
    if config.train.trainer == "ai-toolkit":
        files = f"`{name}.safetensors` is what AI-Toolkit saved last; alpha = rank."
    validation = [f"{key} {loss:.4f}" for key, loss in record.validation.items()]
    return _CARD.format(
        name=name,
        family=config.base.family,
        base=config.base.model,
        revision=record.base,
        dataset=record.dataset,
        samples=dataset.samples,
        panels=layout.panels,
        layout=layout.name,
        width=layout.width,
        height=layout.height,
        markers=", ".join(f"`{marker}`" for marker in layout.markers),
        steps=record.steps,
        batch=config.train.batch,
        rank=config.train.lora.rank,
        seed=config.train.seed,
        loss=record.loss,
        validation=", ".join(validation) or "none",
        warnings="".join(f"\n> {warning}\n" for warning in warnings),
        files=files,
        example=" ".join([dataset.config.caption.prefix, *markers]).strip(),
    )
