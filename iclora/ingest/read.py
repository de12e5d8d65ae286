"""One source becomes an ``Ingested``: the stage around the readers."""

from __future__ import annotations

import logging
from pathlib import Path

from iclora.errors import BadInput
from iclora.ingest.captioned import read_canvases
from iclora.ingest.fetch import local_copy
from iclora.ingest.folder import read_folder
from iclora.ingest.found import Found, Reading, Unreadable
from iclora.ingest.hub import read_dataset
from iclora.ingest.names import files_below, pictures_among
from iclora.ingest.pictures import scene_of
from iclora.ingest.read_film import read_film
from iclora.ingest.shards import read_shards, shards_of
from iclora.ingest.tree import read_archive
from iclora.stages import Stage, run_stage
from iclora.store import Store
from schemas.config import Config
from schemas.source import Source
from schemas.stage import Ingested, StageRef

log = logging.getLogger(__name__)

INGEST = Stage("ingest", 1)


def ingest_source(store: Store, source: Source, config: Config) -> StageRef:
    """Reads one source into frames, unless that is done.

    Args:
        store: where the stage goes.
        source: from ``resolve_sources``.
        config: its ``ingest`` section, and ``layout`` for canvases that are stitched already.

    Returns:
        The stage; its manifest is an ``Ingested``. A source that cannot be read at all has one
        verdict, ``failed``, and no frames.
    """
    public = source.model_copy(update={"url": ""})  # where it lay is nobody's business

    def work(folder: Path) -> Ingested:
        reading = Reading(public, config.ingest, config.layout, folder)
        try:
            found = _read(reading, source.url, store.work)
        except (Unreadable, BadInput) as error:
            why = error if isinstance(error, Unreadable) else Unreadable("unreadable", str(error))
            log.warning("%s: %s", source.name, why)
            found = Found((), (), (reading.failed(source.content, why),))
        return Ingested(
            source=public,
            frames=found.frames,
            given=found.given,
            seen=len(found.verdicts),
            verdicts=found.verdicts,
        )

    return run_stage(store, INGEST, [config.ingest, config.layout], [public.fingerprint], work)


def _read(reading: Reading, url: str, work: Path) -> Found:
    kind = reading.source.kind
    if kind == "huggingface":
        return read_dataset(reading, url, work)
    if kind == "webdataset":
        return read_shards(reading, shards_of(url, work))
    place = local_copy(url, work)
    if kind == "film":
        return read_film(reading, place, reading.source.content)
    if kind == "archive":
        return read_archive(reading, place)
    captioned = kind == "captioned"
    names = pictures_among(files_below(place), captioned=captioned) if place.is_dir() else [""]
    files = [(name, scene_of(name, reading.params), place / name) for name in names]
    if captioned:
        return read_canvases(reading, [(name, file) for name, _, file in files])
    return read_folder(reading, files)
