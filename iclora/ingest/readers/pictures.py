"""Reader for a folder of pictures, whose subfolders are scenes, or for a single picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iclora.ingest import file_types
from iclora.ingest.download import digest_if_readable, digest_source, local_copy
from iclora.ingest.folder import read_folder
from iclora.ingest.inside import list_files
from iclora.ingest.pictures import scene_of
from iclora.ingest.readers import Reader
from iclora.ingest.result import IngestContext, IngestResult


def read_picture_folder(context: IngestContext, location: str) -> IngestResult:
    """Reads the pictures of a folder that have no captions, or a single picture."""
    path = local_copy(location, context.work)
    names = select_plain(list_files(path).files) if path.is_dir() else [""]
    return read_folder(
        context, [(name, scene_of(name, context.params), path / name) for name in names]
    )


def select_plain(files: Sequence[str]) -> list[str]:
    """Selects the pictures in folders without captions."""
    return file_types.select_pictures(files, captioned=False)


def digest_pictures(location: str, files: Sequence[str], work: Path) -> str:
    """Computes the digest of a folder in which a picture may be unreadable."""
    return digest_source(location, files, work, digest_if_readable)


READER = Reader(
    read=read_picture_folder,
    matches=file_types.is_picture,
    select=select_plain,
    digest=digest_pictures,
)
