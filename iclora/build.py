"""Sources to a dataset version, in this process: the stages in their order, sources side by side.

A thread per source takes it from stage to stage (decoding, CLIP, encoding and remote captioners
release the interpreter's lock), so while one film is decoded another is captioned. Two stages need
the whole build and are barriers: calibrating the bounds and choosing the sets. Between stages only
references are held, so memory grows with the number of threads and not of sources. Whether work is
done is decided by the stages themselves; running this again is how a build resumes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Protocol, TypeVar

from iclora.captions import caption_source
from iclora.ingest import ingest_source, resolve_sources
from iclora.panels import stitch_source
from iclora.shards.ledger import add_up, stop_if_failing
from iclora.shards.publish import check_name, publish_dataset
from iclora.sift import calibrate, choose_sets, form_sets, score_frames
from iclora.stages import result_of
from iclora.store import Store
from schemas.config import Config
from schemas.dataset import DatasetRef, ReviewLine
from schemas.source import Source
from schemas.stage import (
    Captioned,
    Chosen,
    Formed,
    Ingested,
    Scored,
    SourceStages,
    StageRef,
    Stitched,
)
from schemas.verdict import Tally, Verdict, add_tallies

MAX_THREADS = 8
"""Sources in work at a time, at most; no more than cores."""

_RESULTS = {
    "ingest": Ingested,
    "quality": Scored,
    "sets": Formed,
    "choose": Chosen,
    "stitch": Stitched,
    "caption": Captioned,
}

Item = TypeVar("Item")
Made = TypeVar("Made")


class Progress(Protocol):
    """Hears how a build goes; called by one thread at a time."""

    def started(self, stage: str, parts: int) -> None:
        """A stage begins that has this many parts (sources)."""

    def advanced(self, stage: str, part: Tally) -> None:
        """One part of a stage is done, or was done already."""

    def finished(self, stage: str, total: Tally) -> None:
        """All parts are done."""


class Quiet:
    """A progress that does nothing."""

    def started(self, stage: str, parts: int) -> None:
        """Nothing."""

    def advanced(self, stage: str, part: Tally) -> None:
        """Nothing."""

    def finished(self, stage: str, total: Tally) -> None:
        """Nothing."""


class Watch:
    """Adds up stages while their parts are done, and stops a build that mostly fails."""

    def __init__(self, store: Store, share: float, progress: Progress) -> None:
        self._store = store
        self._share = share
        self._progress = progress
        self._lock = Lock()
        self._parts: dict[str, int] = {}
        self._tallies: dict[str, list[Tally]] = {}
        self._failed: dict[str, list[Verdict]] = {}

    def expect(self, parts: int, *stages: str) -> None:
        """Says how many parts stages will have."""
        for stage in stages:
            self._parts[stage], self._tallies[stage], self._failed[stage] = parts, [], []

    def done(self, ref: StageRef) -> StageRef:
        """Counts a finished part of a stage; returns it."""
        result = result_of(self._store, ref, _RESULTS[ref.stage])
        self.count(ref.stage, result.verdicts, result.seen)
        return ref

    def count(self, stage: str, verdicts: Sequence[Verdict], seen: int) -> None:
        """Counts the verdicts of one part of a stage.

        Raises:
            BuildStopped: they do not add up, or too large a share of the stage failed.
            BadInput: not one source could be read.
        """
        part = add_up(stage, verdicts, seen)
        with self._lock:
            if not self._tallies[stage]:
                self._progress.started(stage, self._parts[stage])
            self._tallies[stage].append(part)
            self._failed[stage] += [v for v in verdicts if v.outcome == "failed"]
            self._progress.advanced(stage, part)
            if len(self._tallies[stage]) == self._parts[stage]:
                total = add_tallies(self._tallies[stage])
                self._progress.finished(stage, total)
                stop_if_failing(stage, self._failed[stage], total, self._share)


def build_dataset(
    store: Store,
    locations: Sequence[str],
    config: Config,
    name: str,
    progress: Progress | None = None,
    *,
    review: Sequence[ReviewLine] = (),
) -> DatasetRef:
    """Builds a dataset from sources, or finds that it is built.

    Args:
        store: where stages and the dataset go.
        locations: films, folders, archives, URLs, hub ids.
        config: the resolved configuration.
        name: the dataset's name.
        progress: hears how it goes.
        review: a person's choices about samples, from ``review.csv``.

    Raises:
        UserError: nothing can be read or nothing is kept, a setting or a model is wrong.
        BuildStopped: too large a share of a stage failed, or a ledger does not add up.
    """
    check_name(name)
    watch = Watch(store, config.ingest.max_failed, progress or Quiet())
    sources, judged = resolve_sources(locations, config.ingest, store.work)
    watch.expect(1, "sources", "choose")
    watch.count("sources", judged, len(judged))
    with ThreadPoolExecutor(_threads(len(sources)), "iclora-build") as pool:

        def each(work: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
            return _all(pool, work, items)

        watch.expect(len(sources), "ingest", "quality", "sets", "stitch", "caption")

        def read(source: Source) -> tuple[StageRef, StageRef]:
            ingested = watch.done(ingest_source(store, source, config))
            return ingested, watch.done(score_frames(store, ingested, config))

        read_ones = each(read, sources)
        bounds = calibrate(store, [scored for _, scored in read_ones], config)
        formed = each(
            lambda scored: watch.done(form_sets(store, scored, bounds, config)),
            [scored for _, scored in read_ones],
        )
        chosen = watch.done(choose_sets(store, formed, config))

        def finish(made: tuple[tuple[StageRef, StageRef], StageRef]) -> SourceStages:
            (ingested, scored), sets = made
            stitched = watch.done(stitch_source(store, ingested, chosen, config))
            return SourceStages(
                ingested=ingested,
                scored=scored,
                formed=sets,
                stitched=stitched,
                captioned=watch.done(caption_source(store, stitched, config)),
            )

        stages = each(finish, zip(read_ones, formed, strict=True))
    return publish_dataset(
        store,
        name,
        config,
        sources=sources,
        refused=judged,
        stages=stages,
        chosen=chosen,
        review=review,
    )


def _threads(sources: int) -> int:
    return max(1, min(sources, os.cpu_count() or 1, MAX_THREADS))


def _all(
    pool: ThreadPoolExecutor, work: Callable[[Item], Made], items: Iterable[Item]
) -> list[Made]:
    """The results in the items' order; the first error ends the others before they begin."""
    futures = [pool.submit(work, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
