"""``samples.parquet`` and ``rejects.parquet``: the content of a dataset, and reasons for rejects.

Schemas are explicit, so that a table without rows has the same columns as a full one. The files do
not depend on time or threads: the same rows give the same bytes with the same pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from iclora.store import atomic_path
from schemas.sample import SampleRecord
from schemas.verdict import Verdict

ROWS_PER_GROUP = 1000
"""Rows in memory at a time."""

_BOX = pa.list_(pa.int32())

PANEL = pa.struct(
    [
        ("marker", pa.string()),
        ("source", pa.string()),
        ("source_box", _BOX),
        ("shot", pa.int64()),
        ("time", pa.float64()),
        ("sha256", pa.string()),
    ]
)

REJECTS = pa.schema(
    [
        ("stage", pa.string()),
        ("id", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("source", pa.string()),
    ]
)


def samples_schema(scores: Iterable[str]) -> pa.Schema:
    """Returns the columns of ``samples.parquet`` for a dataset with these scores."""
    return pa.schema(
        [
            ("key", pa.string()),
            ("split", pa.string()),
            ("shard", pa.string()),
            ("size", pa.int64()),
            ("sha256", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("caption", pa.string()),
            ("captioner", pa.string()),
            ("licence", pa.string()),
            ("panels", pa.list_(PANEL)),
            ("masks", pa.list_(_BOX)),
            ("scores", pa.struct([(name, pa.float64()) for name in sorted(scores)])),
        ]
    )


def write_samples(rows: Iterable[dict[str, Any]], scores: Iterable[str], path: Path) -> None:
    """Writes ``samples.parquet`` from the rows that ``sample_row`` makes."""
    _write(iter(rows), samples_schema(scores), path)


def write_rejects(verdicts: Iterable[Verdict], path: Path) -> None:
    """Writes ``rejects.parquet``, one row per rejected or failed item."""
    _write((verdict.to_json() for verdict in verdicts), REJECTS, path)


def sample_row(record: SampleRecord, text: str, shard: str, size: int) -> dict[str, Any]:
    """Makes a row of ``samples.parquet``.

    Args:
        record: the sample's record.
        text: caption, one line.
        shard: name of the shard's file.
        size: size of the canvas file in bytes.
    """
    value = record.to_json()
    copied = ("key", "split", "width", "height", "licence", "masks", "scores")
    return {
        **{name: value[name] for name in copied},
        "shard": shard,
        "size": size,
        "sha256": value["image_sha256"],
        "caption": text,
        "captioner": value["caption"]["captioner"],
        "panels": [{name: panel[name] for name in PANEL.names} for panel in value["panels"]],
    }


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yields the rows of a table, reading one group at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP, columns=columns):
            yield from batch.to_pylist()


def _write(rows: Iterator[dict[str, Any]], schema: pa.Schema, path: Path) -> None:
    with (
        atomic_path(path) as scratch,
        pq.ParquetWriter(scratch, schema, compression="zstd", store_schema=False) as writer,
    ):
        while group := list(islice(rows, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
