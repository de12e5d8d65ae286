"""``README.md``: Hugging Face dataset card with all information for users.

The YAML declares the files of each split and the full features, so ``load_dataset(folder)`` never
infers types from the first rows (an empty list there would be inferred as null, and later rows
would fail).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from schemas.dataset import NOT_CHECKED, DatasetManifest
from schemas.verdict import Ledger

Node = dict[str, Any]

_CARD = "dataset_card.md"

_HUB_LICENCES = {
    "apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "cc-by-nd-4.0",
    "pddl", "unlicense", "unknown", "other",
}  # fmt: skip
"""Identifiers of licenses on the hub."""


def write_card(manifest: DatasetManifest, extension: str) -> str:
    """Renders the card's text.

    Args:
        manifest: complete except for the card's own digest.
        extension: extension of the canvases, which is the name of the image column.
    """
    head = yaml.safe_dump(card_data(manifest, extension), sort_keys=False, allow_unicode=True)
    environment = Environment(  # noqa: S701 - Markdown, not HTML
        loader=FileSystemLoader(Path(__file__).parent),
        keep_trailing_newline=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["cell"] = _cell
    body = environment.get_template(f"{_CARD}.j2").render(
        dataset=manifest, ledger=ledger_table(manifest.ledger), not_checked=NOT_CHECKED
    )
    return f"---\n{head}---\n\n{body}"


def card_data(manifest: DatasetManifest, extension: str) -> Node:
    """Builds the YAML block: license, files of each split, features."""
    splits = [split for split in ("train", "val") if manifest.splits.get(split)]
    rights = [source.rights.licence.lower() for source in manifest.sources]
    licences = sorted({name if name in _HUB_LICENCES else "other" for name in rights})
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    sizes = [name for bound, name in bounds if manifest.samples < bound]
    return {
        "pretty_name": manifest.name,
        "license": licences if len(licences) > 1 else (licences or ["unknown"])[0],
        "task_categories": ["text-to-image"],
        "tags": ["in-context-lora", "webdataset", manifest.config.caption.task],
        "size_categories": (sizes or ["100K<n<1M"])[:1],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": s, "path": f"{s}-*.tar"} for s in splits],
            }
        ],
        "dataset_info": {"features": features(extension, manifest.scores)},
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
        (stage, str(total.seen), str(total.kept), str(total.rejected), str(total.failed))
        for stage, total in ledger.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(text: object) -> str:
    """Escapes a text for a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def _text(name: str) -> Node:
    return _value(name, "string")


def _value(name: str, dtype: str) -> Node:
    return {"name": name, "dtype": dtype}
