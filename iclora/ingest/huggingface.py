"""Hugging Face datasets as sources: a folder, a table file, or a hub id; rows are streamed.

Pictures are taken as the bytes they are stored as, so that nothing is decoded and encoded again.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from iclora.errors import BadInput
from iclora.ingest import file_types
from iclora.ingest.download import local_copy
from iclora.ingest.folder import read_folder
from iclora.ingest.result import IngestContext, IngestResult, UnreadableInput
from schemas.base import digest_of
from schemas.ingest import IngestParams
from schemas.verdict import Verdict

_HUB_ID = re.compile(r"^(hf://datasets/)?([\w.-]+/[\w.-]+)(@[\w./-]+)?$")


def is_hub_id(location: str) -> bool:
    """Whether this reads ``owner/name``, ``owner/name@revision`` or ``hf://datasets/owner/name``."""
    return bool(_HUB_ID.match(location)) and not Path(location).exists()


def split_hub_id(location: str) -> tuple[str, str | None]:
    """The id and the revision, None for the newest."""
    found = _HUB_ID.match(location)
    assert found, f"{location} is not a hub id"
    return found.group(2), (found.group(3) or "")[1:] or None


def hub_revision(location: str) -> str:
    """The digest of a hub dataset: of its id and the commit its revision stands for.

    Raises:
        BadInput: there is no such dataset, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    name, revision = split_hub_id(location)
    try:
        commit = HfApi().dataset_info(name, revision=revision, timeout=30).sha
    except Exception as error:  # the client's own, httpx's and the operating system's
        raise BadInput(
            f"{location} does not exist here, and the hub does not give it out as a dataset: "
            f"{error}"
        ) from error
    return digest_of([name, commit])


def read_dataset(context: IngestContext, url: str, work: Path) -> IngestResult:
    """Reads the pictures of a dataset's rows.

    Args:
        context: names the image column and the group column.
        url: a hub id, a folder or a table file.
        work: where a remote folder is copied.

    Raises:
        Unreadable: it is not a dataset, or has no such columns.
    """
    from datasets.exceptions import DatasetsError

    with tempfile.TemporaryDirectory(dir=context.folder.parent, prefix="rows.") as scratch:
        missing: list[Verdict] = []
        try:
            tables = [_prepared(table, context.params) for table in _tables(url, work)]
            rows = _numbered(tables)
            found = read_folder(context, _files(context, rows, Path(scratch), missing))
        except (DatasetsError, OSError, ValueError, KeyError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # a full disk is not the dataset's fault
            raise UnreadableInput(
                "unreadable_dataset", f"{context.source.name} cannot be read: {error}"
            ) from error
    return found + IngestResult(verdicts=tuple(missing))


def _tables(url: str, work: Path) -> list[Any]:
    """The splits of a dataset, in the order of their names."""
    import datasets

    if is_hub_id(url):
        name, revision = split_hub_id(url)
        loaded: Any = datasets.load_dataset(name, revision=revision, streaming=True)
    else:
        loaded = _local_tables(local_copy(url, work))
    if isinstance(loaded, dict):
        return [loaded[split] for split in sorted(loaded)]
    return [loaded]


def _local_tables(place: Path) -> Any:
    import datasets

    if place.is_dir() and any((place / name).is_file() for name in file_types.SAVED_DATASET):
        return datasets.load_from_disk(str(place))
    files = [place] if place.is_file() else [place / name for name in file_types.files_below(place)]
    tables = [str(file) for file in files if file_types.is_table(file.name)]
    kind = "arrow" if tables and tables[0].endswith(".arrow") else "parquet"
    return datasets.load_dataset(kind, data_files=tables, split="train", streaming=True)


def _prepared(table: Any, params: IngestParams) -> tuple[Any, str]:
    """A table whose pictures come as bytes, and the name of their column."""
    import datasets

    features: dict[str, Any] = dict(table.features or table.resolve_features().features or {})
    column = _image_column(features, params.image_column)
    if params.group_column and params.group_column not in features:
        raise UnreadableInput(
            "no_group_column", f"there is no column {params.group_column}, only {list(features)}"
        )
    raw = datasets.Image(decode=False)
    if isinstance(features[column], datasets.Image):
        table = table.cast_column(column, raw)
    elif isinstance(getattr(features[column], "feature", None), datasets.Image):
        table = table.cast_column(column, datasets.List(raw))
    wanted = [name for name in (column, params.group_column) if name]
    return table.select_columns(wanted), column


def _image_column(features: dict[str, Any], wanted: str) -> str:
    """The wanted column if it is there, else the first that holds pictures."""
    import datasets

    if wanted in features:
        return wanted
    for name, feature in features.items():
        if isinstance(feature, datasets.Image):
            return name
        if isinstance(getattr(feature, "feature", None), datasets.Image):
            return name
    raise UnreadableInput(
        "no_image_column", f"no column holds pictures; there are {list(features)}"
    )


def _numbered(tables: Iterable[tuple[Any, str]]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    number = 0
    for table, column in tables:
        for row in table:
            yield number, column, row
            number += 1


def _files(
    context: IngestContext,
    rows: Iterable[tuple[int, str, dict[str, Any]]],
    scratch: Path,
    missing: list[Verdict],
) -> Iterator[tuple[str, str, Path]]:
    """Each row's pictures as files that are gone when the next is asked for."""
    group = context.params.group_column
    for number, column, row in rows:
        value: Any = row[column]
        several = isinstance(value, list)
        scene = str(row[group]) if group else f"row-{number}" if several else ""
        for place, one in enumerate(value if several else [value]):
            name = f"row-{number}-{place}"
            data = _bytes_of(one)
            if not data:
                why = UnreadableInput("no_picture", f"row {number} holds no picture")
                missing.append(context.failed(f"{context.source.content}-{name}", why))
                continue
            file = scratch / name
            file.write_bytes(data)
            yield name, scene, file
            file.unlink()


def _bytes_of(value: Any) -> bytes:
    """The bytes of a picture as a table stores it: themselves, or with a path, or only a path."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, dict):
        return b""
    data, path = value.get("bytes"), value.get("path")
    if data:
        return bytes(data)
    return Path(path).read_bytes() if path and Path(path).is_file() else b""
