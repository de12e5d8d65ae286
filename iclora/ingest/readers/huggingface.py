"""Hugging Face dataset reader for folders, table files and hub ids; streams rows.

Pictures are copied as stored bytes, without decoding and re-encoding.
"""

from __future__ import annotations

import json
import posixpath
import re
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from iclora.disk import is_disk_full
from iclora.errors import BadInput, IcloraError
from iclora.ingest import file_types
from iclora.ingest.download import UNREADABLE, digest_source, is_url, local_copy
from iclora.ingest.folder import read_folder
from iclora.ingest.inside import check_file, check_name, list_files, printable
from iclora.ingest.readers import Reader
from iclora.ingest.result import IngestContext, IngestResult, UnreadableInput
from iclora.redact import redact_text
from schemas.base import digest_of
from schemas.ingest import IngestParams
from schemas.verdict import Verdict

_TABLES = frozenset((".parquet", ".arrow"))
_SAVED = frozenset(("dataset_info.json", "dataset_dict.json", "state.json"))
"""Marker files written by ``datasets.save_to_disk``."""

_HUB_ID = re.compile(r"^(hf://datasets/)?([\w.-]+/[\w.-]+)(@[\w./-]+)?$")


def is_hub_id(location: str) -> bool:
    """Returns True for ``owner/name[@revision]`` or ``hf://datasets/owner/name[@revision]``."""
    return bool(_HUB_ID.match(location)) and not Path(location).exists()


def split_hub_id(location: str) -> tuple[str, str | None]:
    """Splits a hub id into dataset name and revision; None stands for the latest revision."""
    found = _HUB_ID.match(location)
    assert found, f"{location} is not a hub id"
    return found.group(2), (found.group(3) or "")[1:] or None


def is_table(name: str) -> bool:
    """Returns True if the suffix is that of a Hugging Face dataset table."""
    return file_types.suffix_of(name) in _TABLES


def select_dataset(files: Sequence[str]) -> Sequence[str]:
    """Selects all files of a folder that contains a table or a marker of a saved dataset."""
    return files if any(is_table(name) or name in _SAVED for name in files) else ()


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


def read_dataset(context: IngestContext, url: str) -> IngestResult:
    """Reads the pictures in the rows of a dataset.

    Args:
        context: Parameters, including the image and group columns, and output folder.
        url: Hub id, folder or table file.

    Raises:
        UnreadableInput: The source is not a dataset or lacks the requested columns.
    """
    place = None if is_hub_id(url) else local_copy(url, context.work)
    missing: list[Verdict] = []
    with tempfile.TemporaryDirectory(dir=context.folder.parent, prefix="rows.") as scratch:
        with _describing_failures(context.source.name, remote=place is None):
            loaded = _local_tables(place) if place else _hub_tables(url)
            in_order = sorted(loaded) if isinstance(loaded, dict) else []
            splits = [loaded[split] for split in in_order] or [loaded]
            tables = [_prepared(table, context.params) for table in splits]
        rows = _numbered(tables, context.source.name, remote=place is None)
        folder = place if place and place.is_dir() else None
        found = read_folder(context, _files(context, rows, folder, Path(scratch), missing))
    return found + IngestResult(verdicts=tuple(missing))


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


def _hub_tables(url: str) -> Any:
    import datasets

    name, revision = split_hub_id(url)
    return datasets.load_dataset(name, revision=revision, streaming=True)


def _local_tables(place: Path) -> Any:
    import datasets

    if place.is_file():
        tables = [str(place)]
    else:
        files = list_files(place).files
        if any(name in files for name in _SAVED):
            _check_saved(place, files)
            return datasets.load_from_disk(str(place))
        tables = [str(place / name) for name in files if is_table(name)]
    kind = "arrow" if tables and tables[0].endswith(".arrow") else "parquet"
    return datasets.load_dataset(kind, data_files=tables, split="train", streaming=True)


def _check_saved(place: Path, files: Sequence[str]) -> None:
    """Checks that a saved dataset references only its own files.

    Raises:
        UnreadableInput: The dataset references a file outside its folder.
    """
    for name in files:
        folder, own = posixpath.split(name)
        named: list[str] = []
        if own == "state.json":
            tree = json.loads((place / name).read_bytes())
            named = [posixpath.join(folder, one["filename"]) for one in tree["_data_files"]]
        elif name == "dataset_dict.json":
            tree = json.loads((place / name).read_bytes())
            named = [posixpath.join(split, "state.json") for split in tree["splits"]]
        if not {posixpath.normpath(one) for one in named} <= set(files):
            raise UnreadableInput(
                "unsafe_path", f"{name} names a file that the dataset does not hold"
            )


def _prepared(table: Any, params: IngestParams) -> tuple[Any, str]:
    """Disables picture decoding for a table; returns the table and the image column name."""
    import datasets

    if isinstance(table, datasets.Dataset):
        table = table.with_format(None).to_iterable_dataset()
    table = table if table.features else table.resolve_features()
    features: dict[str, Any] = dict(table.features or {})
    column = _image_column(features, params.image_column)
    if params.group_column and params.group_column not in features:
        raise UnreadableInput(
            "no_group_column", f"there is no column {params.group_column}, only {list(features)}"
        )
    wanted = [name for name in (column, params.group_column) if name]
    # Decoding would open any file that a row references.
    return table.select_columns(wanted).decode(enable=False), column


def _image_column(features: dict[str, Any], wanted: str) -> str:
    """Returns the requested column if it exists, else the first column of pictures."""
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


def _numbered(
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
    missing: list[Verdict],
) -> Iterator[tuple[str, str, Path]]:
    """Yields the pictures of each row as files; deletes files in ``scratch`` on the next step.

    Args:
        context: Parameters, including the group column.
        rows: Tuples of (row number, image column, values).
        folder: Source folder whose files rows may reference, or None.
        scratch: Folder for the bytes of the current picture.
        missing: List that receives the verdicts of unusable pictures.
    """
    group = context.params.group_column
    for number, column, row in rows:
        value: Any = row[column]
        several = isinstance(value, list)
        scene = str(row[group]) if group else f"row-{number}" if several else ""
        for place, one in enumerate(value if several else [value]):
            name = f"row-{number}-{place}"
            data, path = _stored(one)
            if data:
                file = scratch / name
                file.write_bytes(data)
                yield name, scene, file
                file.unlink()
                continue
            item = f"{context.source.content}-{name}"
            named = _named_file(path, folder) if path else None
            if isinstance(named, Path):
                yield name, scene, named
            elif named:
                detail = f"row {number} has no bytes and names a file: {named}"
                missing.append(context.rejected(item, named.reason, detail))
            else:
                why = UnreadableInput("no_picture", f"row {number} holds no picture")
                missing.append(context.failed(item, why))


def _stored(value: Any) -> tuple[bytes, str]:
    """Returns the stored bytes and the stored path of a picture value."""
    if isinstance(value, bytes):
        return value, ""
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (b"", "")
    return data if isinstance(data, bytes) else b"", path if isinstance(path, str) else ""


def _named_file(path: str, folder: Path | None) -> Path | UnreadableInput | None:
    """Resolves a file that a row references instead of storing its bytes.

    Returns:
        The file, None if the file does not exist, or the reason the file must not be opened.
    """
    if folder is None:
        return UnreadableInput("unsafe_path", "it is outside the source")
    try:
        check_name(path)
        file = folder / path
        check_file(file, folder)
        return file if file.is_file() else None
    except UnreadableInput as why:
        return why
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
