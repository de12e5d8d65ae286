"""Model card of an adapter."""

from __future__ import annotations

from pathlib import Path

from iclora.models.locate import is_demo
from schemas.adapter import RunRecord
from schemas.dataset import DatasetManifest

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


def write_card(path: Path, record: RunRecord, dataset: DatasetManifest) -> None:
    """Writes the adapter's ``README.md``."""
    config, layout = record.config, dataset.config.layout
    prefix = dataset.config.caption.prefix
    path.write_text(
        _CARD.format(
            name=record.name,
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
            validation=_validation(record),
            warnings=_warnings(record),
            files=_files(record),
            example=" ".join([prefix, *(f"{marker} …" for marker in layout.markers)]).strip(),
        ),
        encoding="utf-8",
    )


def _files(record: RunRecord) -> str:
    name = record.name
    if record.config.train.trainer == "ai-toolkit":
        return f"`{name}.safetensors` is what AI-Toolkit saved last; alpha = rank."
    return (
        f"`{name}.safetensors` holds the moving average of the weights, `{name}-raw.safetensors` "
        f"the last\nones; both have alpha = rank."
    )


def _validation(record: RunRecord) -> str:
    if not record.validation:
        return "none"
    return ", ".join(f"{name} {value:.4f}" for name, value in record.validation.items())


def _warnings(record: RunRecord) -> str:
    lines: list[str] = []
    if is_demo(record.config.base.model):
        lines.append("The base is the miniature: small pictures, for trying things out.")
    if record.preview:
        lines.append("The dataset is a preview: its captions or scores come from the miniature.")
    if record.skipped:
        lines.append(f"{record.skipped} steps had no finite loss and were skipped.")
    return "".join(f"\n> {line}\n" for line in lines)
