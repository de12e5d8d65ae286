"""The ingest stage: dispatches one source to its reader and produces an ``Ingested``."""

from __future__ import annotations

import logging
from pathlib import Path

from iclora.errors import BadInput
from iclora.ingest.download import FORBIDDEN, UNREADABLE
from iclora.ingest.readers import load_reader
from iclora.ingest.result import IngestContext, UnreadableInput
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import Stage, run_stage
from iclora.store import Store
from schemas.config import Config
from schemas.ingest import IngestStageParams
from schemas.source import Source
from schemas.stage import Ingested, StageRef

log = logging.getLogger(__name__)

INGEST = Stage("ingest", 5)
UNREACHABLE = (UNREADABLE, FORBIDDEN)
"""Failure reasons that blame access to the source, not its content."""


def ingest_source(
    store: Store, source: Source, config: Config, report: Report = ignore_progress
) -> StageRef:
    """Reads one source into frames, or returns the stored stage if it already exists.

    Args:
        store: Store that receives the stage.
        source: Source returned by ``resolve_sources``.
        config: Configuration; uses ``ingest``, and the grid of ``layout``.
        report: Callback that receives the fraction of the source read so far.

    Returns:
        Reference to the stage, whose manifest is an ``Ingested``. An unreadable source yields a
        single ``failed`` verdict and no frames.
    """
    public = source.model_copy(update={"url": ""})  # the location stays private
    params = IngestStageParams(
        **dict(config.ingest), rows=config.layout.rows, columns=config.layout.columns
    )
    inputs = [public.fingerprint]

    def work(folder: Path) -> Ingested:
        context = IngestContext(public, params, folder, store.work_folder, report=report)
        try:
            result = load_reader(source.kind).read(context, source.url)
        except UnreadableInput as error:
            if error.reason in UNREACHABLE:
                raise
            return _failed(public, error)
        return Ingested(
            source=public,
            frames=result.frames,
            given=result.given,
            seen=len(result.verdicts),
            verdicts=result.verdicts,
        )

    try:
        return run_stage(store, INGEST, params, inputs, work)
    except BadInput as error:
        why = (
            error if isinstance(error, UnreadableInput) else UnreadableInput(UNREADABLE, str(error))
        )
        # Stored under a separate digest, so the source is retried once it is reachable.
        inputs += [UNREADABLE, str(error)]
        return run_stage(store, INGEST, params, inputs, lambda _: _failed(public, why))


def _failed(source: Source, why: UnreadableInput) -> Ingested:
    log.warning("%s: %s", source.name, why)
    verdict = why.verdict("ingest", source.content, source.name)
    return Ingested(source=source, frames=(), given=(), seen=1, verdicts=(verdict,))
