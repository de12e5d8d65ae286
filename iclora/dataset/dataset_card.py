"""``README.md``: Hugging Face dataset card with all information for users.

The YAML declares the files of each split and the full features, so ``load_dataset(folder)`` never
infers types from the first rows (an empty list there would be inferred as null, and later rows
would fail).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from schemas.dataset import NOT_CHECKED, DatasetManifest
from schemas.verdict import Ledger

Node = dict[str, Any]

_HUB_LICENCES = {
    name: name
    for name in (
        "apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
        "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "cc-by-nd-4.0",
        "pddl", "unlicense", "unknown", "other",
    )
}  # fmt: skip


def write_card(manifest: DatasetManifest, extension: str) -> str:
    """Renders the card's text.

    Args:
        manifest: complete except for the card's own digest.
        extension: extension of the canvases, which is the name of the image column.
    """
    head = yaml.safe_dump(card_data(manifest, extension), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n{_body(manifest)}"


def card_data(manifest: DatasetManifest, extension: str) -> Node:
    """Builds the YAML block: license, files of each split, features."""
    splits = [split for split in ("train", "val") if manifest.splits.get(split)]
    scores = manifest.scores
    return {
        "pretty_name": manifest.name,
        "license": _licences(manifest),
        "task_categories": ["text-to-image"],
        "tags": ["in-context-lora", "webdataset", manifest.config.caption.task],
        "size_categories": [_size_category(manifest.samples)],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": s, "path": f"{s}-*.tar"} for s in splits],
            }
        ],
        "dataset_info": {"features": features(extension, scores)},
    }


def features(extension: str, scores: Iterable[str]) -> list[Node]:
    """Builds the features of a sample in the format of a card's ``dataset_info``."""
    box: Node = {"list": "int64"}
    panel = [
        _text("marker"), {"name": "box", **box}, _text("caption"), _text("source"),
        {"name": "source_box", **box}, _value("shot", "int64"), _value("time", "float64"),
        _text("sha256"),
    ]  # fmt: skip
    caption = [
        _text("prefix"), _text("summary"), {"name": "roles", "list": "string"},
        _text("captioner"), _text("image_sha256"),
    ]  # fmt: skip
    record = [
        _text("key"), _text("layout"), _value("width", "int64"), _value("height", "int64"),
        {"name": "panels", "list": panel}, {"name": "masks", "list": box},
        _text("image_sha256"), {"name": "caption", "struct": caption},
        {"name": "scores", "struct": [_value(name, "float64") for name in sorted(scores)]},
        _text("licence"), _text("split"),
    ]  # fmt: skip
    return [
        _value(extension, "image"),
        {"name": "json", "struct": record},
        _text("txt"),
        _text("__key__"),
        _text("__url__"),
    ]


def ledger_table(ledger: Ledger) -> str:
    """Renders the ledger in Markdown."""
    rows = [("stage", "in", "kept", "rejected", "failed"), ("---", "--:", "--:", "--:", "--:")]
    rows += [
        (stage, str(t.seen), str(t.kept), str(t.rejected), str(t.failed))
        for stage, t in ledger.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _body(manifest: DatasetManifest) -> str:
    sections = [
        f"# {manifest.name}",
        f"Version `{manifest.version}`, made by iclora.{_preview_note(manifest)}",
        _contents(manifest),
        "## How many, and what became of the rest",
        ledger_table(manifest.ledger),
        "One row per item that was rejected or failed, with the reason, is in `rejects.parquet`.",
        "## Sources and rights",
        _sources(manifest),
        "## Models",
        _models(manifest.models),
        "## Reading it",
        _reading(manifest),
    ]
    return "\n\n".join(sections) + "\n"


def _preview_note(manifest: DatasetManifest) -> str:
    if not manifest.preview:
        return ""
    return (
        " **A preview:** its sets or captions come from the miniature models, which know nothing "
        "but their own film world; do not train another base on it."
    )


def _contents(manifest: DatasetManifest) -> str:
    layout = manifest.config.layout
    counts = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    text = (
        f"{manifest.samples} samples ({counts}): {layout.name} panels (rows x columns), each "
        f"{layout.panel_width}x{layout.panel_height}, behind the markers "
        f"{' '.join(f'`{marker}`' for marker in layout.markers)}."
    )
    return f"{text} {_split_note(manifest)}"


def _split_note(manifest: DatasetManifest) -> str:
    if not manifest.splits.get("val"):
        return "**There is no val split:** only one source kept sets, or `split.val_share` is 0."
    if manifest.config.split.by == "scene":
        return (
            "**Split by scene:** train and val hold different scenes of the same sources, so a "
            "score on val overstates how well an adapter does on a film it has not seen."
        )
    return "Split by source: no source is in both."


def _sources(manifest: DatasetManifest) -> str:
    rows = [
        "| source | kind | split | samples | licence | url |",
        "| --- | --- | --- | --: | --- | --- |",
    ]
    for source in manifest.sources:
        rights = source.rights
        cells = (source.name, source.kind, source.split, source.samples, rights.licence, rights.url)
        rows.append(f"| {' | '.join(_cell(str(cell)) for cell in cells)} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _models(models: Mapping[str, str]) -> str:
    lines = [f"* {role}: {_cell(name)}" for role, name in models.items()]
    if NOT_CHECKED in models.values():
        lines.append(f"\n`{NOT_CHECKED}`: no model for it was given, so nothing is known of it.")
    return "\n".join(lines)


def _reading(manifest: DatasetManifest) -> str:
    first = manifest.shards[0].file
    return (
        "```python\n"
        "from datasets import load_dataset\n"
        'load_dataset("path/to/this/folder", split="train")\n\n'
        "import webdataset\n"
        f'webdataset.WebDataset("{first}", shardshuffle=False)\n'
        "```"
    )


def _licences(manifest: DatasetManifest) -> str | list[str]:
    """Returns the hub's identifiers of all sources' licenses."""
    found = {_HUB_LICENCES.get(s.rights.licence.lower(), "other") for s in manifest.sources}
    names = sorted(found or {"unknown"})
    return names[0] if len(names) == 1 else names


def _size_category(samples: int) -> str:
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    return next((name for bound, name in bounds if samples < bound), "100K<n<1M")


def _text(name: str) -> Node:
    return _value(name, "string")


def _value(name: str, dtype: str) -> Node:
    return {"name": name, "dtype": dtype}
