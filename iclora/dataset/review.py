"""Manual review: images to inspect, a table to fill in, and the reader of that table.

``review.csv`` has one row per sample. Its last column is a digest of the caption as written, which
distinguishes edited captions from unchanged ones. The file survives rebuilds (keys are derived from
content), and unchanged captions do not block those of a better captioner.
"""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from iclora.captioning.caption_text import flatten
from iclora.captioning.linter import lint_caption
from iclora.dataset.reader import Dataset
from iclora.dataset.shard_writer import Sample
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
    with atomic_path(page) as scratch, scratch.open("w", encoding="utf-8") as file:
        before, after = _template().split("<!--samples-->")
        file.write(before.replace("{title}", html.escape(dataset.manifest.name)))
        for sample in dataset.samples():
            row = rows.setdefault(sample.record.key, _row(sample))
            file.write(_article(sample, row))
        file.write(after)
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
        line = _line(row, f"{path} line {number}")
        if line.key in lines:
            raise BadInput(f"{path} line {number}: {line.key} has two rows")
        if line.caption and line.choice == "keep":
            faults = lint_caption(line.caption, config.layout, config.caption)
            if faults:
                raise BadInput(f"{path} line {number}: {faults[0].rule}: {faults[0].sentence}")
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


def _row(sample: Sample) -> dict[str, str]:
    text = flatten(sample.text)
    values = (sample.record.key, "keep", text, "", digest_of(text))
    return dict(zip(COLUMNS, values, strict=True))


def _article(sample: Sample, row: dict[str, str]) -> str:
    picture = base64.b64encode(_thumbnail(sample.image)).decode()
    values = {name: html.escape(row[name], quote=True) for name in COLUMNS}
    dropped = " selected" if row["choice"] == "drop" else ""
    return (
        f'<article data-key="{values["key"]}" data-digest="{values["caption_digest"]}">'
        f'<img loading="lazy" alt="{values["key"]}" src="data:image/jpeg;base64,{picture}">'
        f"<p><code>{values['key']}</code> {html.escape(_origin(sample))}</p>"
        f"<select><option>keep</option><option{dropped}>drop</option></select>"
        f"<textarea>{values['caption']}</textarea>"
        f'<input placeholder="note" value="{values["note"]}"></article>\n'
    )


def _origin(sample: Sample) -> str:
    panels = sample.record.panels
    times = ", ".join(f"{panel.time:.1f} s" for panel in panels if panel.time >= 0)
    return " ".join(part for part in (panels[0].source, times) if part)


def _thumbnail(image: bytes) -> bytes:
    with Image.open(io.BytesIO(image)) as canvas:
        canvas.draft("RGB", _PICTURE)
        small = canvas.convert("RGB")
    small.thumbnail(_PICTURE)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _template() -> str:
    return (resources.files("iclora.dataset") / "review.html").read_text(encoding="utf-8")
