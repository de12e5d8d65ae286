"""Archive reader: unpacks an archive and reads its films, pictures and canvases."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from iclora.ingest import file_types
from iclora.ingest.archives import unpack
from iclora.ingest.download import local_copy
from iclora.ingest.folder import read_folder
from iclora.ingest.inside import list_files
from iclora.ingest.pictures import scene_of
from iclora.ingest.readers import Reader, kind_of_file
from iclora.ingest.readers.captioned import read_canvases
from iclora.ingest.readers.film import read_film
from iclora.ingest.result import IngestContext, IngestResult, UnreadableInput

NameScenes = Callable[[Path, Sequence[str]], list[str]]
"""Function that names the scene of each picture, given the folder and the pictures' names."""


def read_archive_source(context: IngestContext, location: str) -> IngestResult:
    """Reads an archive that is a source by itself."""
    return read_archive(context, local_copy(location, context.work), context.source.content)


def read_archive(
    context: IngestContext, archive: Path, prefix: str, name_scenes: NameScenes | None = None
) -> IngestResult:
    """Unpacks an archive and reads its films, pictures and captioned canvases.

    Args:
        context: Parameters and output folder.
        archive: Zip or tar archive.
        prefix: Prefix of ids for films and refused members.
        name_scenes: Names the scenes of pictures; defaults to the scene pattern or the folder.

    Raises:
        UnreadableInput: The file is not an archive or contains no film and no picture.
    """
    with tempfile.TemporaryDirectory(dir=context.folder.parent, prefix="unpack.") as scratch:
        folder = Path(scratch)
        refused = unpack(archive, folder, context.params)
        result = _read_tree(context, folder, prefix, name_scenes)
    failed = [
        context.failed(f"{prefix}-x{number:04d}", why) for number, (_, why) in enumerate(refused)
    ]
    result += IngestResult(verdicts=tuple(failed))
    if not result.verdicts:
        raise UnreadableInput("nothing_inside", f"{archive.name} holds no film and no picture")
    return result


def _read_tree(
    context: IngestContext, folder: Path, prefix: str, name_scenes: NameScenes | None
) -> IngestResult:
    files = list_files(folder).files
    result = IngestResult()
    films = [name for name in files if file_types.is_film(name)]
    for number, name in enumerate(films):
        film = f"{prefix}-{number:04d}"
        try:
            result += read_film(context.part(number, len(films)), folder / name, film, scene=name)
        except UnreadableInput as why:
            result += IngestResult(verdicts=(context.failed(film, why),))
    if pictures := file_types.select_pictures(files, captioned=False):
        if name_scenes:
            scenes = name_scenes(folder, pictures)
        else:
            scenes = [scene_of(name, context.params) for name in pictures]
        paths = [folder / name for name in pictures]
        result += read_folder(context, list(zip(pictures, scenes, paths, strict=True)))
    if canvases := file_types.select_pictures(files, captioned=True):
        result += read_canvases(context, folder, canvases)
    nested = [
        context.rejected(f"{prefix}-n{number:04d}", "nested_archive", name)
        for number, name in enumerate(filter(file_types.is_archive, files))
    ]
    faults = [file_types.media_fault(name, folder) for name in files if kind_of_file(name) is None]
    unknown = [
        context.rejected(f"{prefix}-u{number:04d}", "unknown_format", fault)
        for number, fault in enumerate(filter(None, faults))
    ]
    return result + IngestResult(verdicts=(*nested, *unknown))


READER = Reader(
    read=read_archive_source,
    matches=lambda name: file_types.is_archive(name) and not file_types.is_shard(name),
)
