"""Renders on disk: names, records, and completeness checks.

A render's key is a digest of everything that can change its image. Any number of runs can fill one
folder: complete renders are skipped, and two runs that request the same image compute the same
name. The canvas carries its own parameters (iTXt, key ``iclora``); a file with other parameters
counts as absent.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, PngImagePlugin, UnidentifiedImageError
from pydantic import ValidationError

from iclora.sampling.given_panels import GivenPanels, paste, pixels_digest, split_canvas
from iclora.store import atomic_path, atomic_write
from schemas.base import digest_of
from schemas.layout import Layout
from schemas.sampling import AdapterUse, RenderRecord, SampleParams

META = "iclora"
LINES = "sets.jsonl"
_SLUG_WORDS = 5
_SLUG_LENGTH = 40


class RenderRequest(NamedTuple):
    """Request for one image."""

    caption: str
    seed: int
    given: GivenPanels = {}


class RenderSettings(NamedTuple):
    """Settings shared by all images of a run."""

    layout: Layout
    params: SampleParams
    clean: bool = False
    """True to feed given panels clean (conditional adapters) instead of putting them back."""


def make_record(
    request: RenderRequest,
    settings: RenderSettings,
    *,
    base: str,
    adapters: Sequence[AdapterUse] = (),
) -> RenderRecord:
    """Returns the record of a render before it is sampled.

    Args:
        request: caption, seed and given panels.
        settings: layout and parameters; batch size does not matter.
        base: base model and revision.
        adapters: adapters applied to the transformer.
    """
    layout, params, given = settings.layout, settings.params, request.given
    given_mode = "clean" if settings.clean else f"put-back {params.strength:g}"
    facts: dict[str, object] = {
        "caption": request.caption,
        "seed": request.seed,
        "layout": layout.name,
        "width": layout.width,
        "height": layout.height,
        "base": base,
        "adapters": {f"{use.name}#{use.content}": use.weight for use in adapters},
        "steps": params.steps,
        "guidance": params.guidance,
        "true_cfg": params.true_cfg,
        "given": {layout.markers[index]: pixels_digest(given[index]) for index in given},
        "way": given_mode if given else "",
    }
    hidden = [params.precision, params.weights, sorted(use.content for use in adapters)]
    named = {use.content: use.weight for use in adapters}
    digest = digest_of([{**facts, "adapters": named}, hidden])
    key = f"{_slug(request.caption)}-{request.seed}-{digest}"
    panels = [f"panels/{key}-{number}.png" for number in range(1, layout.panels + 1)]
    return RenderRecord.from_json({**facts, "key": key, "canvas": f"{key}.png", "panels": panels})


def _slug(caption: str) -> str:
    """Returns the caption's first words after its prefix as a file name; ``set`` if empty."""
    bare = re.sub(r"^\s*\[[^\]]*\]", "", caption)
    ascii_only = unicodedata.normalize("NFKD", bare).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", ascii_only)[:_SLUG_WORDS]
    return "-".join(words)[:_SLUG_LENGTH].strip("-") or "set"


def save_render(
    folder: Path, record: RenderRecord, canvas: Image.Image, layout: Layout, given: GivenPanels
) -> None:
    """Writes a render: panels first, canvas last, so an existing canvas means a complete render."""
    complete = paste(canvas, given, layout)
    for file, panel in zip(record.panels, split_canvas(complete, layout), strict=True):
        with atomic_path(folder / file) as scratch:
            panel.save(scratch, "PNG")
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt(META, record.model_dump_json())
    notes.add_itxt("Description", record.caption)
    with atomic_path(folder / record.canvas) as scratch:
        complete.save(scratch, "PNG", pnginfo=notes)


def is_complete(folder: Path, record: RenderRecord) -> bool:
    """Checks that this render exists, is undamaged, and has exactly these parameters."""
    if not all((folder / file).is_file() for file in record.panels):
        return False
    return read_record(folder / record.canvas) == record


def read_record(canvas: Path) -> RenderRecord | None:
    """Reads the parameters of a canvas file; None if it is absent, damaged, or not a render."""
    try:
        with Image.open(canvas) as picture:
            picture.verify()
        with Image.open(canvas) as picture:
            picture.load()  # text chunks behind the pixels are read with them
            return RenderRecord.from_text(str(picture.info[META]))
    except (OSError, SyntaxError, UnidentifiedImageError, KeyError, ValidationError):
        return None  # Pillow raises the first three on damaged files


def write_lines(folder: Path, records: Iterable[RenderRecord]) -> None:
    """Adds records to ``sets.jsonl`` after those of earlier runs, each key once."""
    fresh = {record.key: record for record in records}
    kept = [record for record in read_lines(folder) if record.key not in fresh]
    text = "".join(f"{record.model_dump_json()}\n" for record in [*kept, *fresh.values()])
    atomic_write(folder / LINES, text.encode())


def read_lines(folder: Path) -> list[RenderRecord]:
    """Reads the records of ``sets.jsonl``; empty if the file is missing."""
    file = folder / LINES
    if not file.is_file():
        return []
    return [RenderRecord.from_text(line) for line in file.read_text(encoding="utf-8").splitlines()]
