"""One source becomes an ``Ingested``: the stage around the readers."""

from __future__ import annotations

import logging
from collections.abc import Callable
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
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import Stage, run_stage
from iclora.store import Store
from schemas.config import Config
from schemas.source import Source
from schemas.stage import Ingested, StageRef

log = logging.getLogger(__name__)

INGEST = Stage("ingest", 3)
UNREACHABLE = "unreadable"
"""The reason of a source that is not bad itself: it cannot be got at."""


def ingest_source(
    store: Store, source: Source, config: Config, report: Report = ignore_progress
) -> StageRef:
    """Reads one source into frames, unless that is done.

    Args:
        store: where the stage goes.
        source: from ``resolve_sources``.
        config: its ``ingest`` section, and ``layout`` for canvases that are stitched already.
        report: takes the fraction of the source that is read.

    Returns:
        The stage; its manifest is an ``Ingested``. A source that cannot be read at all has one
        verdict, ``failed``, and no frames.
    """
    public = source.model_copy(update={"url": ""})  # where it lay is nobody's business
    params = [config.ingest, config.layout]
    inputs = [public.fingerprint]

    def work(folder: Path) -> Ingested:
        reading = Reading(public, config.ingest, config.layout, folder, say=report)
        try:
            return _ingested(public, _read(reading, source.url, store.work))
        except Unreadable as why:
            if why.reason == UNREACHABLE:
                raise
            return _failed(reading, why)

    def give_up(why: BadInput) -> Callable[[Path], Ingested]:
        reason = Unreadable(UNREACHABLE, str(why))
        return lambda folder: _failed(Reading(public, config.ingest, config.layout, folder), reason)

    try:
        return run_stage(store, INGEST, params, inputs, work)
    except BadInput as why:
        # Under a digest of its own: once the source can be reached, it is read after all.
        return run_stage(store, INGEST, params, [*inputs, UNREACHABLE, str(why)], give_up(why))


def _failed(reading: Reading, why: Unreadable) -> Ingested:
    log.warning("%s: %s", reading.source.name, why)
    return _ingested(reading.source, Found((), (), (reading.failed(reading.source.content, why),)))


def _ingested(source: Source, found: Found) -> Ingested:
    return Ingested(
        source=source,
        frames=found.frames,
        given=found.given,
        seen=len(found.verdicts),
        verdicts=found.verdicts,
    )


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
