"""Hugging Face dataset reader for folders, table files and hub ids; streams rows.

Pictures are copied as stored bytes, without decoding and re-encoding.
"""

from __future__ import annotations

import glob
import json
import os
import posixpath
import re
import tempfile
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from iclora.disk import is_disk_full
from iclora.errors import BadInput, IcloraError
from iclora.ingest import file_types
from iclora.ingest.download import UNREADABLE, digest_source, is_url, local_copy
from iclora.ingest.folder import read_folder
from iclora.ingest.inside import check_file, check_name, list_files, printable
from iclora.ingest.readers import Reader, kind_of_file, separate_kind
from iclora.ingest.readers.captioned import read_captioned_folder
from iclora.ingest.readers.pictures import read_picture_folder
from iclora.ingest.result import IngestContext, IngestResult, UnreadableInput
from iclora.redact import redact_text
from schemas.base import digest_of
from schemas.ingest import IngestParams
from schemas.verdict import Verdict

_TABLES = frozenset((".parquet", ".arrow"))
_SAVED = frozenset(("dataset_info.json", "dataset_dict.json", "state.json"))
"""Marker files written by ``datasets.save_to_disk``."""

_MAX_DECODED = 1 << 28
"""Bytes up to which a decoded row group is exempt from the ratio limit."""

_WIDTH = 8
"""Bytes per decoded value, besides those of texts."""

_HUB_ID = re.compile(r"^(hf://datasets/)?([\w.-]+/[\w.-]+)(@[\w./-]+)?$")


def is_hub_id(location: str) -> bool:
    """Returns True for ``owner/name[@revision]`` or ``hf://datasets/owner/name[@revision]``."""
    return bool(_HUB_ID.match(location)) and not Path(location).exists()


def split_hub_id(location: str) -> tuple[str, str | None]:
    """Splits a hub id into dataset name and revision; None stands for the latest revision."""
    match = _HUB_ID.match(location)
    assert match, f"{location} is not a hub id"
    return match.group(2), (match.group(3) or "")[1:] or None


def is_table(name: str) -> bool:
    """Returns True if the suffix is that of a Hugging Face dataset table."""
    return file_types.suffix_of(name) in _TABLES


def select_dataset(files: Sequence[str]) -> Sequence[str]:
    """Selects the files of a folder that contains a table or a marker of a saved dataset.

    Films, archives and shards are left to their own readers. Pictures are selected, because rows
    may name them. A marker beside films or pictures, but without a table, is no dataset.
    """
    markers = not _SAVED.isdisjoint(files) and not any(map(kind_of_file, files))
    if not markers and not any(map(is_table, files)):
        return ()
    return [
        name
        for name in files
        if not (separate_kind(name) or file_types.is_shard(name) or file_types.advice_for(name))
    ]


def digest_dataset(location: str, files: Sequence[str], work: Path) -> str:
    """Computes the digest of a dataset from its commit on the hub, or from its files."""
    return hub_revision(location) if is_hub_id(location) else digest_source(location, files, work)


def hub_revision(location: str) -> str:
    """Computes the digest of a hub dataset from its name and resolved commit.

    Raises:
        BadInput: The dataset does not exist, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    name, revision = split_hub_id(location)
    try:
        commit = HfApi().dataset_info(name, revision=revision, timeout=30).sha
    except Exception as error:  # hub client, httpx or operating system
        raise BadInput(
            f"{location} does not exist here, and the hub does not give it out as a dataset: "
            f"{error}"
        ) from error
    return digest_of([name, commit])


def read_dataset(context: IngestContext, location: str) -> IngestResult:
    """Reads the pictures in the rows of a dataset.

    Each picture of the folder that no row names gets a verdict. If the tables of a folder cannot be
    read, or hold no pictures, the pictures beside them are read.

    Args:
        context: Parameters, including the image and group columns, and output folder.
        location: Hub id, folder or table file.

    Raises:
        UnreadableInput: The source is not a dataset or lacks the requested columns, and there is no
            picture beside it.
    """
    path = None if is_hub_id(location) else local_copy(location, context.work)
    if path is None or not path.is_dir():
        return _read_rows(context, location, path, set())
    named: set[str] = set()
    files = list_files(path).files
    pictures = [name for name in files if file_types.is_picture(name)]
    try:
        result = _read_rows(context, location, path, named)
    except UnreadableInput as why:
        if not pictures:
            raise
        result = IngestResult(verdicts=(context.failed(context.source.content, why),))
        afresh = replace(context, id_counts=Counter())
        if file_types.select_pictures(files, captioned=False):
            result += read_picture_folder(afresh, location)
        if file_types.select_pictures(files, captioned=True):
            result += read_captioned_folder(afresh, location)
        pictures = []
    unread = [
        ("beside_table", f"{name} lies beside a table that does not name it; move it out")
        for name in pictures
        if os.path.realpath(path / name) not in named
    ]
    unread += [
        ("unknown_format", fault)
        for name in files
        if not (kind_of_file(name) or file_types.advice_for(name))  # those have one already
        and os.path.realpath(path / name) not in named
        and (fault := file_types.media_fault(name, path))
    ]
    verdicts = [
        context.rejected(f"{context.source.content}-beside-{number:04d}", reason, detail)
        for number, (reason, detail) in enumerate(unread)
    ]
    return result + IngestResult(verdicts=tuple(verdicts))


def _read_rows(
    context: IngestContext, location: str, path: Path | None, named: set[str]
) -> IngestResult:
    """Reads the pictures in rows; adds the files that rows name to ``named``."""
    refused: list[Verdict] = []
    with tempfile.TemporaryDirectory(dir=context.folder.parent, prefix="rows.") as scratch:
        with _describing_failures(context.source.name, remote=path is None):
            loaded = _load_tables(location, path, context.params)
            tables = [loaded[split] for split in sorted(loaded)] if isinstance(loaded, dict) else []
            prepared = [_prepare(table, context.params) for table in tables or [loaded]]
        rows = _numbered_rows(prepared, context.source.name, remote=path is None)
        folder = path if path and path.is_dir() else None
        files = _files(context, rows, folder, Path(scratch), refused)
        result = read_folder(context, _collect_named(files, folder, named))
    return result + IngestResult(verdicts=tuple(refused))


@contextmanager
def _describing_failures(name: str, *, remote: bool) -> Generator[None]:
    """Converts any error from the datasets library to a one-sentence error.

    Raises:
        UnreadableInput: The source is not a dataset, or access to a remote dataset failed.
    """
    try:
        yield
    except IcloraError:
        raise
    except Exception as error:  # the library does not validate its input
        if is_disk_full(error):
            raise  # a full disk is not a dataset error
        reason = UNREADABLE if remote else "unreadable_dataset"
        detail = " ".join(redact_text(str(error)).split()) or type(error).__name__
        raise UnreadableInput(reason, f"{name} cannot be read: {printable(detail)}") from error


def _load_tables(location: str, path: Path | None, params: IngestParams) -> Any:
    """Opens the tables of a local copy, or of the hub if there is none."""
    import datasets

    if path is None:
        name, revision = split_hub_id(location)
        return datasets.load_dataset(name, revision=revision, streaming=True)
    if path.is_file():
        tables = [str(path)]
    else:
        files = list_files(path).files
        tables = [name for name in files if is_table(name)]
        arrow = any(name.endswith(".arrow") for name in tables)
        if not _SAVED.isdisjoint(files) and (arrow or not tables):
            _check_saved(path, files)
            return datasets.load_from_disk(str(path))
        tables = [str(path / name) for name in tables]
    builder = "arrow" if tables and tables[0].endswith(".arrow") else "parquet"
    if builder == "parquet":
        for table in tables:
            _check_decoded_size(Path(table), params)
    # The library takes names for patterns.
    names = [glob.escape(table) for table in tables]
    return datasets.load_dataset(builder, data_files=names, split="train", streaming=True)


def _check_decoded_size(table: Path, params: IngestParams) -> None:
    """Checks that no row group of a Parquet file decodes to much more than it takes in the file.

    The library decodes a row group at once. Its sizes in the metadata count a value that is
    repeated by a dictionary once, so columns are read as dictionaries here, which expands nothing.

    Raises:
        UnreadableInput: A row group exceeds both 256 MiB and the ratio limit.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(table)
    leaves = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    with pq.ParquetFile(table, read_dictionary=texts) as file:
        for group in range(metadata.num_row_groups):
            columns = [metadata.row_group(group).column(n) for n in range(metadata.num_columns)]
            packed = sum(column.total_compressed_size for column in columns)
            limit = max(_MAX_DECODED, int(params.max_archive_ratio * packed))
            size = sum(_WIDTH * column.num_values for column in columns)
            for path in texts if size <= limit else ():
                try:
                    column = file.read_row_group(group, [path], use_threads=False).column(0)
                except pa.ArrowException:  # broken, which reading the rows reports
                    continue
                size += sum(_dictionary_bytes(chunk) for chunk in column.chunks)
                if size > limit:
                    break
            if size > limit:
                raise UnreadableInput(
                    "table_bomb",
                    f"{table.name} has rows that take {size} bytes in memory and {packed} in the "
                    "file; write it without repeated values",
                    size,
                    limit,
                )


def _dictionary_bytes(array: Any) -> int:
    """Computes the number of bytes of the texts in a nested array if it were decoded."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        compute: Any = pc  # its functions are made at run time
        lengths = compute.cast(compute.binary_length(array.dictionary), pa.int64())
        return compute.sum(lengths.take(array.indices)).as_py() or 0
    if pa.types.is_struct(array.type):
        return sum(_dictionary_bytes(child) for child in array.flatten())
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _dictionary_bytes(array.flatten())
    return 0


def _check_saved(root: Path, files: Sequence[str]) -> None:
    """Checks that a saved dataset references only its own files.

    Raises:
        UnreadableInput: The dataset references a file outside its folder.
    """
    for name in files:
        folder, own = posixpath.split(name)
        references: list[str] = []
        if own == "state.json":
            tree = json.loads((root / name).read_bytes())
            references = [
                posixpath.join(folder, entry["filename"]) for entry in tree["_data_files"]
            ]
        elif name == "dataset_dict.json":
            tree = json.loads((root / name).read_bytes())
            references = [posixpath.join(split, "state.json") for split in tree["splits"]]
        if not {posixpath.normpath(file) for file in references} <= set(files):
            raise UnreadableInput(
                "unsafe_path", f"{name} names a file that the dataset does not hold"
            )


def _prepare(table: Any, params: IngestParams) -> tuple[Any, str]:
    """Disables picture decoding for a table; returns the table and the image column name.

    The image column is the requested one if it exists, else the first column of pictures.
    """
    import datasets

    if isinstance(table, datasets.Dataset):
        table = table.with_format(None).to_iterable_dataset()
    table = table if table.features else table.resolve_features()
    features: dict[str, Any] = dict(table.features or {})
    pictures = [
        name
        for name, feature in features.items()
        if isinstance(feature, datasets.Image)
        or isinstance(getattr(feature, "feature", None), datasets.Image)
    ]
    if params.image_column in features:
        pictures = [params.image_column]
    if not pictures:
        raise UnreadableInput(
            "no_image_column", f"no column holds pictures; there are {list(features)}"
        )
    if params.group_column and params.group_column not in features:
        raise UnreadableInput(
            "no_group_column", f"there is no column {params.group_column}, only {list(features)}"
        )
    columns = [name for name in (pictures[0], params.group_column) if name]
    # Decoding would open any file that a row references.
    return table.select_columns(columns).decode(enable=False), pictures[0]


def _numbered_rows(
    tables: Iterable[tuple[Any, str]], source: str, *, remote: bool
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    numbers = count()
    for table, column in tables:
        with _describing_failures(source, remote=remote):
            rows = iter(table)
        while True:
            with _describing_failures(source, remote=remote):
                row = next(rows, None)
            if row is None:
                break
            yield next(numbers), column, row


def _files(
    context: IngestContext,
    rows: Iterable[tuple[int, str, dict[str, Any]]],
    folder: Path | None,
    scratch: Path,
    refused: list[Verdict],
) -> Iterator[tuple[str, str, Path]]:
    """Yields the pictures of rows as files; deletes each when the next one is requested.

    Args:
        context: Parameters, including the group column.
        rows: Tuples of (row number, image column, values).
        folder: Source folder whose files rows may reference, or None.
        scratch: Folder for the bytes of the current picture.
        refused: List that receives the verdicts of unusable pictures.
    """
    group = context.params.group_column
    for number, column, row in rows:
        cell: Any = row[column]
        several = isinstance(cell, list)
        scene = str(row[group]) if group else f"row-{number}" if several else ""
        for position, value in enumerate(cell if several else [cell]):
            name = f"row-{number}-{position}"
            item = f"{context.source.content}-{name}"
            stored: dict[str, Any] = value if isinstance(value, dict) else {"bytes": value}
            data, path = stored.get("bytes"), stored.get("path")
            if data and isinstance(data, bytes):
                file = scratch / name
                file.write_bytes(data)
                yield name, scene, file
                file.unlink()
                continue
            try:
                named = _named_file(path, folder) if path and isinstance(path, str) else None
            except UnreadableInput as why:
                detail = f"row {number} has no bytes and names a file: {why}"
                refused.append(context.rejected(item, why.reason, detail))
                continue
            if named:
                yield name, scene, named
            else:
                why = UnreadableInput("no_picture", f"row {number} holds no picture")
                refused.append(context.failed(item, why))


def _collect_named(
    files: Iterable[tuple[str, str, Path]], folder: Path | None, named: set[str]
) -> Iterator[tuple[str, str, Path]]:
    for name, scene, file in files:
        if folder and file.is_relative_to(folder):
            named.add(os.path.realpath(file))
        yield name, scene, file


def _named_file(path: str, folder: Path | None) -> Path | None:
    """Returns a file that a row references instead of storing its bytes; None if there is none.

    Raises:
        UnreadableInput: The file must not be opened.
    """
    if folder is None:
        raise UnreadableInput("unsafe_path", "it is outside the source")
    check_name(path)
    try:
        file = folder / path
        check_file(file, folder)
        return file if file.is_file() else None
    except OSError:  # name too long or folder not accessible
        return None


READER = Reader(
    read=read_dataset,
    matches=is_table,
    # A dataset that is named by its hf:// URL is listed as a folder first.
    matches_address=lambda location: is_hub_id(location) and not is_url(location),
    select=select_dataset,
    digest=digest_dataset,
)
