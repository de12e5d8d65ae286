"""Archive reader: unpacks an archive and reads its films, pictures and canvases."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from iclora.ingest import file_types
from iclora.ingest.archives import RefusedMember, unpack
from iclora.ingest.download import local_copy
from iclora.ingest.folder import read_folder
from iclora.ingest.inside import list_files
from iclora.ingest.pictures import scene_of
from iclora.ingest.readers import Reader
from iclora.ingest.readers.captioned import read_canvases
from iclora.ingest.readers.film import read_film
from iclora.ingest.result import IngestContext, IngestResult, UnreadableInput

Scenes = Callable[[Path, Sequence[str]], Callable[[str], str]]
"""Function from a folder and its picture names to a function that names the scene of a picture."""


def read_archive_source(context: IngestContext, location: str) -> IngestResult:
    """Reads an archive that is a source by itself."""
    return read_archive(context, local_copy(location, context.work))


def read_archive(
    context: IngestContext, archive: Path, *, prefix: str = "", scenes: Scenes | None = None
) -> IngestResult:
    """Unpacks an archive and reads its content.

    Args:
        context: Parameters and output folder.
        archive: Zip or tar archive.
        prefix: Prefix of ids for films and refused members; defaults to the source digest.
        scenes: Scene naming for pictures; defaults to the scene pattern or the folder.

    Raises:
        UnreadableInput: The file is not an archive or contains no film and no picture.
    """
    prefix = prefix or context.source.content
    with tempfile.TemporaryDirectory(dir=context.folder.parent, prefix="unpack.") as scratch:
        place = Path(scratch)
        refused = unpack(archive, place, context.params)
        found = read_tree(context, place, prefix, scenes)
    found += _refusals(context, prefix, refused)
    if not found.verdicts:
        raise UnreadableInput("nothing_inside", f"{archive.name} holds no film and no picture")
    return found


def read_tree(
    context: IngestContext, place: Path, prefix: str, scenes: Scenes | None = None
) -> IngestResult:
    """Reads the films, pictures and captioned canvases below a folder."""
    files = list_files(place).files
    found = IngestResult()
    films = [name for name in files if file_types.is_film(name)]
    for number, name in enumerate(films):
        part = context.part(number, len(films))
        found += _film_inside(part, place / name, f"{prefix}-{number:04d}", name)
    plain = file_types.select_pictures(files, captioned=False)
    canvases = file_types.select_pictures(files, captioned=True)
    if plain:
        of = scenes(place, plain) if scenes else partial(scene_of, params=context.params)
        found += read_folder(context, [(name, of(name), place / name) for name in plain])
    if canvases:
        found += read_canvases(context, place, canvases)
    nested = [name for name in files if file_types.is_archive(name)]
    return found + IngestResult(
        verdicts=tuple(
            context.rejected(f"{prefix}-n{number:04d}", "nested_archive", name)
            for number, name in enumerate(nested)
        )
    )


def _film_inside(context: IngestContext, film: Path, prefix: str, name: str) -> IngestResult:
    try:
        return read_film(context, film, prefix, scene=name)
    except UnreadableInput as why:
        return IngestResult(verdicts=(context.failed(prefix, why),))


def _refusals(context: IngestContext, prefix: str, refused: list[RefusedMember]) -> IngestResult:
    return IngestResult(
        verdicts=tuple(
            context.failed(f"{prefix}-x{number:04d}", one.reason)
            for number, one in enumerate(refused)
        )
    )


READER = Reader(
    read=read_archive_source,
    matches=lambda name: file_types.is_archive(name) and not file_types.is_shard(name),
)
