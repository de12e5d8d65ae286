"""WebDataset reader: reads tar shards whose members are grouped into samples by name.

The key of a sample is the member path up to the first dot of the file name. A sample with several
pictures forms a scene. A single picture with a caption is a pre-stitched canvas. For any other
picture, its JSON file may name the scene (``ingest.group_column``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import cast

from braceexpand import braceexpand

from iclora.errors import BadInput
from iclora.ingest import file_types
from iclora.ingest.download import digest_file, digest_source, local_copy
from iclora.ingest.inside import list_files
from iclora.ingest.readers import Reader
from iclora.ingest.readers.archive import read_archive
from iclora.ingest.result import IngestContext, IngestResult, UnreadableInput
from iclora.redact import redact_url
from schemas.base import digest_of


def is_pattern(location: str) -> bool:
    """Returns True if a location is a shard pattern (``x-{000000..000009}.tar``)."""
    return "{" in location and ".tar" in location


def expand_shards(pattern: str) -> tuple[str, ...]:
    """Expands a shard pattern to shard locations, in order.

    Raises:
        BadInput: The pattern has unbalanced braces.
    """
    try:
        return tuple(braceexpand(pattern))
    except ValueError as error:
        raise BadInput(f"{redact_url(pattern)} has braces that do not match") from error


def list_shards(location: str, work: Path) -> list[Path]:
    """Lists the local shard files of a pattern, a folder or a single file."""
    if is_pattern(location):
        return [local_copy(shard, work) for shard in expand_shards(location)]
    path = local_copy(location, work)
    if not path.is_dir():
        return [path]
    return [path / name for name in select_shards(list_files(path).files)]


def select_shards(files: Sequence[str]) -> list[str]:
    """Selects the files that are shards."""
    return [name for name in files if file_types.is_shard(name)]


def digest_shards(location: str, files: Sequence[str], work: Path) -> str:
    """Computes the digest of the shards of a pattern, of the files of a folder or of one shard."""
    if is_pattern(location):
        return digest_of([digest_file(shard) for shard in list_shards(location, work)])
    return digest_source(location, files, work)


def read_shards(context: IngestContext, location: str) -> IngestResult:
    """Reads shards in order; a broken shard yields a failed verdict and reading continues."""
    result = IngestResult()
    name_scenes = partial(_name_scenes, column=context.params.group_column)
    for number, shard in enumerate(list_shards(location, context.work)):
        prefix = f"{context.source.content}-{number:06d}"
        try:
            result += read_archive(context, shard, prefix, name_scenes)
        except UnreadableInput as why:
            result += IngestResult(verdicts=(context.failed(prefix, why),))
    return result


def sample_key(name: str) -> str:
    """Returns the sample key: the member path up to the first dot of the file name."""
    path = PurePosixPath(name)
    return (path.parent / path.name.split(".", 1)[0]).as_posix()


def _name_scenes(folder: Path, pictures: Sequence[str], column: str) -> list[str]:
    """Names scenes by sample, or by a column of the JSON file of a sample with one picture."""
    keys = [sample_key(name) for name in pictures]
    counts = Counter(keys)
    return [key if counts[key] > 1 else _group_in(folder / f"{key}.json", column) for key in keys]


def _group_in(file: Path, column: str) -> str:
    if not column or not file.is_file():
        return ""
    try:
        tree: object = json.loads(file.read_bytes())
    except ValueError:
        return ""  # unreadable metadata defines no scene
    value = cast("dict[str, object]", tree).get(column) if isinstance(tree, dict) else None
    return "" if value is None else str(value)


READER = Reader(
    read=read_shards,
    matches=file_types.is_shard,
    matches_address=is_pattern,
    select=select_shards,
    digest=digest_shards,
)
