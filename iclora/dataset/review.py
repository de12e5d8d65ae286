"""Manual review: images to inspect, a table to fill in, and the reader of that table.

``review.csv`` has one row per sample. Its last column is a digest of the caption as written, which
distinguishes edited captions from unchanged ones. The file survives rebuilds (keys are derived from
content), and unchanged captions do not block those of a better captioner.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from iclora.captioning.caption_text import flatten
from iclora.captioning.linter import lint_caption
from iclora.dataset.preview import thumbnail
from iclora.dataset.reader import Dataset
from iclora.errors import BadInput
from iclora.store import atomic_path
from schemas.base import digest_of
from schemas.config import Config
from schemas.dataset import ReviewLine

COLUMNS = ("key", "choice", "caption", "note", "caption_digest")
PAGE, TABLE = "review.html", "review.csv"

_PICTURE = (480, 720)
_QUALITY = 80


class Review(NamedTuple):
    """The two review files and their number of samples."""

    page: Path
    table: Path
    samples: int


def write_review(dataset: Dataset, folder: Path) -> Review:
    """Writes ``review.html`` and ``review.csv`` for a dataset.

    Existing rows of ``review.csv`` are preserved, because they hold manual work.
    """
    page, table = folder / PAGE, folder / TABLE
    rows = {row["key"]: row for row in _rows(table)} if table.exists() else {}

    def articles() -> Iterator[dict[str, str]]:
        for sample in dataset.samples():
            text = flatten(sample.text)
            row = (sample.record.key, "keep", text, "", digest_of(text))
            panels = sample.record.panels
            times = ", ".join(f"{panel.time:.1f} s" for panel in panels if panel.time >= 0)
            buffer = io.BytesIO()
            thumbnail(sample.image, _PICTURE).save(buffer, "JPEG", quality=_QUALITY)
            yield {
                **rows.setdefault(sample.record.key, dict(zip(COLUMNS, row, strict=True))),
                "origin": f"{panels[0].source} {times}".strip(),
                "picture": base64.b64encode(buffer.getvalue()).decode(),
            }

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        keep_trailing_newline=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    template = environment.get_template(f"{PAGE}.j2")
    with atomic_path(page) as scratch, scratch.open("w", encoding="utf-8") as file:
        # Streamed: the page holds a picture per sample.
        file.writelines(template.generate(title=dataset.manifest.name, samples=articles()))
    with atomic_path(table) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))
    return Review(page, table, len(dataset))


def read_review(path: Path, config: Config) -> tuple[ReviewLine, ...]:
    """Reads a filled-in ``review.csv``.

    Args:
        path: path of the file.
        config: layout and caption rules for checking edited captions.

    Raises:
        BadInput: the table is invalid, or an edited caption breaks a rule; the message names the
            first row.
    """
    lines: dict[str, ReviewLine] = {}
    for number, row in enumerate(_rows(path), 2):
        where = f"{path} line {number}"
        line = _line(row, where)
        if line.key in lines:
            raise BadInput(f"{where}: {line.key} has two rows")
        if line.caption and line.choice == "keep":
            faults = lint_caption(line.caption, config.layout, config.caption)
            if faults:
                raise BadInput(f"{where}: {faults[0].rule}: {faults[0].sentence}")
        lines[line.key] = line
    return tuple(lines[key] for key in sorted(lines))


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """Yields the rows of a table, with empty strings for absent optional columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as UTF-8 text: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in COLUMNS[:2] if name not in (reader.fieldnames or ())]
    if missing:
        raise BadInput(f"{path} has no column {missing[0]!r}; it needs {', '.join(COLUMNS[:4])}")
    for row in reader:
        yield {name: row.get(name) or "" for name in COLUMNS}


def _line(row: dict[str, str], where: str) -> ReviewLine:
    choice = row["choice"].strip().lower() or "keep"
    if choice not in {"keep", "drop"}:
        raise BadInput(f"{where}: choice is keep or drop, not {row['choice']!r}")
    caption = flatten(row["caption"])
    if row["caption_digest"] == digest_of(caption):
        caption = ""
    try:
        return ReviewLine(
            key=row["key"].strip(),
            choice="drop" if choice == "drop" else "keep",
            caption=caption,
            note=flatten(row["note"]),
        )
    except ValueError as error:
        raise BadInput(f"{where}: {row['key']!r} is not a sample's key") from error
