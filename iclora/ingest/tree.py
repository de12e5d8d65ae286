"""A folder that may hold anything: what came out of an archive."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from iclora.ingest import names
from iclora.ingest.archives import Refused, unpack
from iclora.ingest.captioned import read_canvases
from iclora.ingest.folder import read_folder
from iclora.ingest.found import Found, Reading, Unreadable
from iclora.ingest.pictures import scene_of
from iclora.ingest.read_film import read_film

Scenes = Callable[[Path, Sequence[str]], Callable[[str], str]]
"""Given a folder and the names of its pictures, names the scene of each."""


def read_archive(
    reading: Reading, archive: Path, *, prefix: str = "", scenes: Scenes | None = None
) -> Found:
    """Unpacks an archive and reads everything in it.

    Args:
        reading: what to do, and where the pictures go.
        archive: zip or tar.
        prefix: begins the ids of films and refused members; the source's digest if empty.
        scenes: names the scenes of pictures; by default folder or pattern do.

    Raises:
        Unreadable: it is not an archive, or holds nothing that could be read.
    """
    prefix = prefix or reading.source.content
    with tempfile.TemporaryDirectory(dir=reading.folder.parent, prefix="unpack.") as scratch:
        place = Path(scratch)
        refused = unpack(archive, place, reading.params)
        found = read_tree(reading, place, prefix, scenes)
    found += _refusals(reading, prefix, refused)
    if not found.verdicts:
        raise Unreadable("nothing_inside", f"{archive.name} holds no film and no picture")
    return found


def read_tree(reading: Reading, place: Path, prefix: str, scenes: Scenes | None = None) -> Found:
    """Reads the films, pictures and captioned canvases below a folder."""
    files = names.files_below(place)
    found = Found()
    films = [name for name in files if names.is_film(name)]
    for number, name in enumerate(films):
        part = reading.part(number, len(films))
        found += _film_inside(part, place / name, f"{prefix}-{number:04d}", name)
    plain = names.pictures_among(files, captioned=False)
    canvases = names.pictures_among(files, captioned=True)
    if plain:
        of = scenes(place, plain) if scenes else partial(scene_of, params=reading.params)
        found += read_folder(reading, [(name, of(name), place / name) for name in plain])
    if canvases:
        found += read_canvases(reading, [(name, place / name) for name in canvases])
    nested = [name for name in files if names.is_archive(name)]
    return found + Found(
        verdicts=tuple(
            reading.rejected(f"{prefix}-n{number:04d}", "nested_archive", name)
            for number, name in enumerate(nested)
        )
    )


def _film_inside(reading: Reading, film: Path, prefix: str, name: str) -> Found:
    try:
        return read_film(reading, film, prefix, scene=name)
    except Unreadable as why:
        return Found(verdicts=(reading.failed(prefix, why),))


def _refusals(reading: Reading, prefix: str, refused: list[Refused]) -> Found:
    return Found(
        verdicts=tuple(
            reading.failed(f"{prefix}-x{number:04d}", one.why) for number, one in enumerate(refused)
        )
    )
