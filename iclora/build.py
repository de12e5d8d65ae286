"""Sources to a dataset version, in this process: the stages in their order, sources side by side.

A thread per source takes it from stage to stage (decoding, CLIP and encoding release the
interpreter's lock), and captions have threads of their own, because a captioner is mostly waited
for. Two stages need the whole build: calibrating the bounds and choosing the sets. So that nothing
stands still until then, the sets of a source that will most likely be chosen are stitched and
captioned ahead, as soon as the source is read; what was chosen in the end finds its canvases and
captions done, and at most ``sift.max_sets`` captions were made in vain. Between stages only
references are held, so memory grows with the number of threads and not of sources. Whether work is
done is decided by the stages themselves; running this again is how a build resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import NamedTuple, TypeVar

from iclora.ahead import stitch_ahead
from iclora.captions import caption_source, was_let_down
from iclora.cores import cores
from iclora.ingest import ingest_source, resolve_sources
from iclora.panels import stitch_source
from iclora.shards.publish import check_name, publish_dataset
from iclora.sift import calibrate, choose_sets, form_sets, score_frames
from iclora.store import Store
from iclora.watch import Progress, Quiet, Watch
from schemas.config import Config
from schemas.dataset import DatasetRef, ReviewLine
from schemas.source import Source
from schemas.stage import SourceStages, StageRef

MAX_THREADS = 8
"""Sources in work at a time, at most; no more than cores."""

CAPTIONED_AT_ONCE = 4
"""Sources whose captions are waited for at a time; they share the captioner's places."""

Item = TypeVar("Item")
Made = TypeVar("Made")


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
    watch.expect(1, "sources")
    watch.count("sources", judged, len(judged))
    watch.expect(len(sources), "ingest", "quality", "sets")
    watch.expect(1, "choose")
    watch.expect(len(sources), "stitch", "caption")
    with (
        _threads(CAPTIONED_AT_ONCE, "iclora-caption") as captions,
        _threads(_workers(len(sources)), "iclora-build") as workers,
    ):
        site = _Site(store, config, watch, workers, captions)
        read = _read_all(site, sources)
        bounds = calibrate(store, [one.scored for one in read], config)
        formed = _all(
            workers, lambda one: watch.done(form_sets(store, one.scored, bounds, config)), read
        )
        chosen = watch.done(choose_sets(store, formed, config))
        stages = _finish_all(site, read, formed, chosen)
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


class _Site(NamedTuple):
    """Where a build's work is done."""

    store: Store
    config: Config
    watch: Watch
    workers: ThreadPoolExecutor
    captions: ThreadPoolExecutor


class _Read(NamedTuple):
    """One source, decoded and scored."""

    ingested: StageRef
    scored: StageRef
    ahead: Future[None] | None
    """Its captions that are being written already."""


def _read_all(site: _Site, sources: Sequence[Source]) -> list[_Read]:
    """Reads every source, and has the sets of each captioned that will most likely be chosen."""
    store, config, watch = site.store, site.config, site.watch
    silent = Event()

    def caption(stitched: StageRef) -> None:
        if not silent.is_set() and was_let_down(store, caption_source(store, stitched, config)):
            silent.set()  # asked again when it is known what must be asked

    def read(source: Source) -> _Read:
        ingested = watch.done(ingest_source(store, source, config))
        scored = watch.done(score_frames(store, ingested, config))
        stitched = stitch_ahead(store, ingested, scored, config, len(sources))
        ahead = site.captions.submit(caption, stitched) if stitched else None
        return _Read(ingested, scored, ahead)

    return _all(site.workers, read, sources)


def _finish_all(
    site: _Site, read: Sequence[_Read], formed: Sequence[StageRef], chosen: StageRef
) -> list[SourceStages]:
    """Stitches and captions what was chosen."""
    store, config, watch = site.store, site.config, site.watch

    def stitch(one: _Read) -> StageRef:
        return watch.done(stitch_source(store, one.ingested, chosen, config))

    def caption(work: tuple[_Read, StageRef, Future[StageRef]]) -> SourceStages:
        one, sets, stitching = work
        if one.ahead is not None:
            one.ahead.result()  # what is being asked is not asked twice
        stitched = stitching.result()
        return SourceStages(
            ingested=one.ingested,
            scored=one.scored,
            formed=sets,
            stitched=stitched,
            captioned=watch.done(caption_source(store, stitched, config)),
        )

    stitching = [site.workers.submit(stitch, one) for one in read]
    return _all(site.captions, caption, zip(read, formed, stitching, strict=True))


def _workers(sources: int) -> int:
    return max(1, min(sources, cores(), MAX_THREADS))


@contextmanager
def _threads(count: int, name: str) -> Generator[ThreadPoolExecutor]:
    """Threads that begin nothing more once something went wrong."""
    pool = ThreadPoolExecutor(count, name)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _all(
    pool: ThreadPoolExecutor, work: Callable[[Item], Made], items: Iterable[Item]
) -> list[Made]:
    """The results in the items' order; the first error ends the others before they begin."""
    return list(pool.map(work, items))
