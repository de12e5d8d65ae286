"""Sources to a dataset version: the order of the stages, written once.

``run_build`` is a paragraph over an ``Executor``: the command line runs it on threads, a flow as
Prefect task runs. Two steps need all sources: calibrating the thresholds and choosing the sets. So
that the captioner does not stand still until the last film is decoded, the sets of a source that
will most likely be chosen are stitched and captioned as soon as the source is read; the chosen sets
find those canvases and captions done, and at most ``filter.max_sets`` captions are made in vain.
Stages decide what is done: running a build again resumes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from iclora.captioning import caption_source
from iclora.captioning.captioners import EXISTING, check_captioner_kind
from iclora.cpus import available_cpus
from iclora.dataset.publish import publish_dataset
from iclora.dataset.reader import LATEST
from iclora.filtering import calibrate, choose_sets, form_sets, likely_sets, score_frames
from iclora.ingest import ingest_source, resolve_sources
from iclora.locks import file_lock
from iclora.names import check_name
from iclora.pipeline.executor import Executor, Mapped, Step, ThreadExecutor, as_completed
from iclora.pipeline.progress import BuildProgress, Listener, Report, Reports, SourceReports
from iclora.pipeline.stage import result_of
from iclora.stitching import stitch_sets, stitch_source
from iclora.store import Store
from schemas.config import Config
from schemas.dataset import DatasetRef, ReviewLine
from schemas.filtering import SimilarityParams
from schemas.job import BuildJob, BuildResult, BuildSetup
from schemas.source import Source
from schemas.stage import SourceStages, StageRef, Stitched
from schemas.store_paths import dataset_path

MAX_WORKERS: Final = 8
"""Maximum number of sources processed concurrently in this process, also capped by its CPUs."""

CAPTIONER: Final = "captioner"
"""Lane of the steps that wait for the captioner."""

CAPTIONER_WORKERS: Final = 4
"""Sources whose captions are waited for concurrently; they share the captioner's slots."""


class BuildContext(NamedTuple):
    """First argument of every step of a build."""

    store: Store
    config: Config
    source_count: int
    track: Callable[[str, str], AbstractContextManager[Report]]
    """Shows a source (stage, name) as in progress."""


class ReadSource(NamedTuple):
    """A source, decoded and scored."""

    ingested: StageRef
    scored: StageRef
    likely: StageRef | None
    """Canvases of the sets that will most likely be chosen; None if they are not known yet."""


def read_source(context: BuildContext, source: Source) -> ReadSource:
    """Decodes one source, measures its frames and stitches the sets that are likely chosen."""
    store, config = context.store, context.config
    with context.track("ingest", source.name) as report:
        ingested = ingest_source(store, source, config, report)
    with context.track("quality", source.name) as report:
        scored = score_frames(store, ingested, config, report)
    return ReadSource(ingested, scored, _stitch_likely_sets(context, ingested, scored))


def _stitch_likely_sets(
    context: BuildContext, ingested: StageRef, scored: StageRef
) -> StageRef | None:
    store, config = context.store, context.config
    band = config.filter.sets.similarity
    has_captions = config.caption.captioner.kind == EXISTING
    if context.source_count == 1 or band.unit != "absolute" or has_captions:
        return None  # nothing to gain, or nothing known yet
    sets = likely_sets(store, form_sets(store, scored, band, config), config, context.source_count)
    return stitch_sets(store, ingested, sets, config) if sets else None


def caption_likely_sets(context: BuildContext, read: ReadSource) -> None:
    """Captions the sets of a source that will most likely be chosen."""
    if read.likely is not None:
        caption(context, read.likely)


def calibrate_thresholds(context: BuildContext, scored: Sequence[StageRef]) -> SimilarityParams:
    """Turns percentiles of all sources into absolute similarity thresholds."""
    return calibrate(context.store, scored, context.config)


def form_source(context: BuildContext, read: ReadSource, thresholds: SimilarityParams) -> StageRef:
    """Groups the frames of one source into sets."""
    return form_sets(context.store, read.scored, thresholds, context.config)


def choose(context: BuildContext, formed: Sequence[StageRef]) -> StageRef:
    """Chooses among the sets of all sources."""
    return choose_sets(context.store, formed, context.config)


def stitch(context: BuildContext, read: ReadSource, chosen: StageRef) -> StageRef:
    """Stitches the chosen sets of one source."""
    return stitch_source(context.store, read.ingested, chosen, context.config)


def caption(context: BuildContext, stitched: StageRef) -> StageRef:
    """Captions the canvases of one source."""
    source = result_of(context.store, stitched, Stitched).source
    with context.track("caption", source.name) as report:
        return caption_source(context.store, stitched, context.config, report)


def publish(
    context: BuildContext, job: BuildJob, stages: Sequence[SourceStages], chosen: StageRef
) -> DatasetRef:
    """Writes shards, tables and card; moves LATEST last."""
    return publish_dataset(context.store, job, stages, chosen)


READ: Final = Step("read", read_source)
CAPTION_LIKELY: Final = Step("caption likely sets of", caption_likely_sets, CAPTIONER)
CALIBRATE: Final = Step("calibrate", calibrate_thresholds)
FORM: Final = Step("form sets of", form_source)
CHOOSE: Final = Step("choose sets", choose)
STITCH: Final = Step("stitch", stitch)
CAPTION: Final = Step("caption", caption, CAPTIONER)
PUBLISH: Final = Step("publish", publish)
STEPS: Final = {
    step.name: step
    for step in (READ, CAPTION_LIKELY, CALIBRATE, FORM, CHOOSE, STITCH, CAPTION, PUBLISH)
}
"""Steps by name, for workers in other processes."""


def build_dataset(
    store: Store,
    locations: Sequence[str],
    config: Config,
    name: str,
    listener: Listener | None = None,
    *,
    reports: Reports | None = None,
    review: Sequence[ReviewLine] = (),
) -> DatasetRef:
    """Builds a dataset from sources in this process, or finds that it is built.

    Args:
        store: store of the stages and of the dataset.
        locations: films, folders, archives, URLs, hub ids.
        config: the resolved configuration.
        name: name of the dataset.
        listener: receives the progress of the stages.
        reports: receives the progress of the sources.
        review: a person's choices about samples, from ``review.csv``.

    Raises:
        UserError: nothing can be read or nothing is kept, a setting or a model is wrong.
        BuildStopped: too large a share of a stage failed, or a ledger does not add up.
    """
    job = plan_build(store, locations, config, name, review)
    context = open_context(job.setup, reports or SourceReports())
    workers = max(1, min(len(job.sources), available_cpus(), MAX_WORKERS))
    with ThreadExecutor(context, workers, {CAPTIONER: CAPTIONER_WORKERS}) as executor:
        progress = BuildProgress(store, config.ingest.max_failed_share, listener)
        return run_build(job, executor, progress).dataset


def plan_build(
    store: Store,
    locations: Sequence[str],
    config: Config,
    name: str,
    review: Sequence[ReviewLine] = (),
) -> BuildJob:
    """Resolves the sources of a build.

    Raises:
        BadConfig: the name cannot be a dataset's, or no captioner has the kind that is set.
        BadInput: a location does not exist.
    """
    check_name(name, "a dataset")
    check_captioner_kind(config.caption.captioner.kind)
    sources, verdicts = resolve_sources(locations, config.ingest, store.work_folder)
    latest = dataset_path(name, LATEST)
    return BuildJob(
        store=store.url,
        name=name,
        config=config,
        sources=tuple(sources),
        refused=tuple(verdicts),
        review=tuple(review),
        latest=store.read(latest).decode().strip() if store.exists(latest) else "",
    )


def open_context(setup: BuildSetup, reports: Reports) -> BuildContext:
    """Opens the store for the steps of a build, in whatever process they run."""
    return BuildContext(Store(setup.store), setup.config, setup.source_count, reports.track)


def run_build(
    job: BuildJob, executor: Executor, progress: BuildProgress, holder: str = ""
) -> BuildResult:
    """Runs the stages of a build in their order.

    Another build of the same name on this machine is waited for.

    Args:
        job: sources and settings.
        executor: runs the steps.
        progress: counts what is done, and stops a build that mostly fails.
        holder: names this run to builds that wait for it.

    Raises:
        UserError: nothing can be read or nothing is kept, a setting or a model is wrong.
        BuildStopped: too large a share of a stage failed, or a ledger does not add up.
    """
    lock = Store(job.store).work_folder / "locks" / f"build-{job.name}.lock"
    with file_lock(lock, f"the build of {job.name}", holder):
        count = len(job.sources)
        progress.expect(1, "sources")
        progress.expect(count, "ingest", "quality", "sets")
        progress.expect(1, "choose")
        progress.expect(count, "stitch", "caption")
        progress.count("sources", "given", job.refused, len(job.refused))

        read = executor.map(READ, job.sources)
        early = executor.map(CAPTION_LIKELY, read)
        _collect(job, progress, read)
        scored = [source.scored for source in read.results()]
        thresholds = executor.run(CALIBRATE, scored)

        formed = executor.map(FORM, read, thresholds)
        _collect(job, progress, formed)
        chosen = executor.run(CHOOSE, formed.results())
        progress.record("all sources", chosen)

        stitched = executor.map(STITCH, read, chosen)
        early.results()  # sets that are being captioned are not captioned twice
        captioned = executor.map(CAPTION, stitched)
        _collect(job, progress, stitched, captioned)

        refs = zip(
            read.results(),
            formed.results(),
            stitched.results(),
            captioned.results(),
            strict=True,
        )
        stages = [
            SourceStages(
                ingested=source.ingested,
                scored=source.scored,
                formed=sets,
                stitched=canvases,
                captioned=captions,
            )
            for source, sets, canvases, captions in refs
        ]
        dataset = executor.run(PUBLISH, job, stages, chosen)
        return BuildResult(dataset=dataset, scored=tuple(scored), thresholds=thresholds)


def _collect(job: BuildJob, progress: BuildProgress, *mapped: Mapped) -> None:
    """Counts the stages of every source as they are finished."""
    for start, results in as_completed(*mapped):
        for source, result in zip(job.sources[start:], results, strict=False):
            is_read = isinstance(result, ReadSource)
            refs = (result.ingested, result.scored) if is_read else (result,)
            progress.record(source.name.rpartition("@")[0], *refs)
