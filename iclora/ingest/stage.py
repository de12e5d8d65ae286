"""The ingest stage: dispatches one source to its reader and produces an ``Ingested``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from iclora.errors import BadInput
from iclora.ingest.archive_index import read_archive
from iclora.ingest.captioned import read_canvases
from iclora.ingest.download import FORBIDDEN, UNREADABLE, local_copy
from iclora.ingest.file_types import files_below, select_pictures
from iclora.ingest.folder import read_folder
from iclora.ingest.huggingface import read_dataset
from iclora.ingest.pictures import scene_of
from iclora.ingest.read_film import read_film
from iclora.ingest.result import IngestContext, IngestResult, UnreadableInput
from iclora.ingest.webdataset_shards import list_shards, read_shards
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import Stage, run_stage
from iclora.store import Store
from schemas.config import Config
from schemas.source import Source
from schemas.stage import Ingested, StageRef

log = logging.getLogger(__name__)

INGEST = Stage("ingest", 4)
UNREACHABLE = (UNREADABLE, FORBIDDEN)
"""Failure reasons that blame access to the source, not its content."""


def ingest_source(
    store: Store, source: Source, config: Config, report: Report = ignore_progress
) -> StageRef:
    """Reads one source into frames, or returns the stored stage if it already exists.

    Args:
        store: Store that receives the stage.
        source: Source returned by ``resolve_sources``.
        config: Configuration; uses ``ingest``, and ``layout`` for pre-stitched canvases.
        report: Callback that receives the fraction of the source read so far.

    Returns:
        Reference to the stage, whose manifest is an ``Ingested``. An unreadable source yields a
        single ``failed`` verdict and no frames.
    """
    public = source.model_copy(update={"url": ""})  # the location stays private
    params = [config.ingest, config.layout]
    inputs = [public.fingerprint]

    def work(folder: Path) -> Ingested:
        context = IngestContext(public, config.ingest, config.layout, folder, say=report)
        try:
            return _ingested(public, _read(context, source.url, store.work_folder))
        except UnreadableInput as why:
            if why.reason in UNREACHABLE:
                raise
            return _failed(context, why)

    def give_up(why: BadInput) -> Callable[[Path], Ingested]:
        reason = why if isinstance(why, UnreadableInput) else UnreadableInput(UNREADABLE, str(why))
        return lambda folder: _failed(
            IngestContext(public, config.ingest, config.layout, folder), reason
        )

    try:
        return run_stage(store, INGEST, params, inputs, work)
    except BadInput as why:
        # Stored under a separate digest, so the source is retried once it is reachable.
        return run_stage(store, INGEST, params, [*inputs, UNREADABLE, str(why)], give_up(why))


def _failed(context: IngestContext, why: UnreadableInput) -> Ingested:
    log.warning("%s: %s", context.source.name, why)
    return _ingested(
        context.source, IngestResult((), (), (context.failed(context.source.content, why),))
    )


def _ingested(source: Source, found: IngestResult) -> Ingested:
    return Ingested(
        source=source,
        frames=found.frames,
        given=found.given,
        seen=len(found.verdicts),
        verdicts=found.verdicts,
    )


def _read(context: IngestContext, url: str, work: Path) -> IngestResult:
    kind = context.source.kind
    if kind == "huggingface":
        return read_dataset(context, url, work)
    if kind == "webdataset":
        return read_shards(context, list_shards(url, work))
    place = local_copy(url, work)
    if kind == "film":
        return read_film(context, place, context.source.content)
    if kind == "archive":
        return read_archive(context, place)
    captioned = kind == "captioned"
    names = select_pictures(files_below(place), captioned=captioned) if place.is_dir() else [""]
    if captioned:
        return read_canvases(context, place, names)
    return read_folder(
        context, [(name, scene_of(name, context.params), place / name) for name in names]
    )
