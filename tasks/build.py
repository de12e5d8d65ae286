"""The stages of a build, as Prefect runs them: a task run a stage and parcel of sources.

A task enters its room of the library when it runs: who only starts, serves or schedules a flow
does not wait for decoders and arrays to be imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iclora.presets import load_config
from iclora.shards.read import LATEST
from iclora.stages import result_of
from iclora.store import Store
from iclora.watch import Quiet, Watch
from schemas.dataset import DatasetRef
from schemas.job import BuildJob, BuildSetup, Parcel
from schemas.sift import BandParams
from schemas.stage import Scored, SourceStages, StageRef
from tasks import places
from tasks.names import at_a_time, stage_task
from tasks.parcels import each, into_parcels
from tasks.secrets import load_secrets, load_secrets_once


@stage_task(name="plan build", task_run_name="plan build of {name}")
def plan_build(
    sources: Sequence[str],
    preset: str,
    name: str,
    store: str,
    overrides: dict[str, Any],
    review: str,
) -> BuildJob:
    """Resolves the settings and the sources; without sources, renders the demo's films."""
    from iclora.ingest import resolve_sources
    from iclora.ingest.fetch import size_at
    from iclora.miniature.demo import render_demo
    from iclora.shards.publish import check_name
    from iclora.shards.review import read_review

    check_name(name)
    config = load_config(preset, overrides)
    load_secrets(places.home(store), config)
    place = Store(places.home(store))
    choices = read_review(Path(review), config) if review else ()
    found, refused = resolve_sources(
        sources or [str(render_demo(place.work / "demo-films"))], config.ingest, place.work
    )
    return BuildJob(
        setup=BuildSetup(store=place.url, name=name, config=config),
        parcels=into_parcels(
            found, [size_at(source.url, place.work) for source in found], at_a_time()
        ),
        refused=refused,
        review=choices,
        latest=places.read_line(place, f"datasets/{name}/{LATEST}"),
    )


@stage_task(name="ingest", task_run_name="ingest {setup.title}")
def ingest_sources(parcel: Parcel, setup: BuildSetup) -> list[StageRef]:
    """Cuts each source of a parcel into shots and frames."""
    from iclora.ingest import ingest_source

    store = _store(setup)
    return each(setup.parcel, lambda s: ingest_source(store, s, setup.config), parcel.sources)


@stage_task(name="score frames", task_run_name="score frames of {setup.title}")
def score_frames(ingested: Sequence[StageRef], setup: BuildSetup) -> list[StageRef]:
    """Measures the quality and the CLIP embeddings of each source's frames."""
    from iclora import sift

    store = _store(setup)
    return each(setup.parcel, lambda ref: sift.score_frames(store, ref, setup.config), ingested)


@stage_task(name="caption ahead", task_run_name="caption ahead {setup.title}", tags=["captioner"])
def caption_ahead(
    ingested: Sequence[StageRef], scored: Sequence[StageRef], setup: BuildSetup, sources: int
) -> None:
    """Captions the sets of each source that will most likely be chosen, while others are read."""
    from iclora.ahead import stitch_ahead
    from iclora.captions import caption_source

    store = _store(setup)

    def caption(read: tuple[StageRef, StageRef]) -> None:
        stitched = stitch_ahead(store, *read, setup.config, sources)
        if stitched is not None:
            caption_source(store, stitched, setup.config)

    each(setup.parcel, caption, zip(ingested, scored, strict=True))


@stage_task(name="calibrate", task_run_name="calibrate")
def calibrate(scored: Sequence[StageRef], setup: BuildSetup) -> BandParams:
    """Turns percentiles into this dataset's own similarity bounds."""
    from iclora import sift

    store = Store(setup.store)
    ingested = [result_of(store, ref, Scored).ingested for ref in scored]
    _stop_if_failing(setup, ingested, scored)
    return sift.calibrate(store, scored, setup.config)


@stage_task(name="form sets", task_run_name="form sets of {setup.title}")
def form_sets(scored: Sequence[StageRef], bounds: BandParams, setup: BuildSetup) -> list[StageRef]:
    """Groups each source's frames into sets."""
    from iclora import sift

    store = _store(setup)
    return each(setup.parcel, lambda ref: sift.form_sets(store, ref, bounds, setup.config), scored)


@stage_task(name="choose sets", task_run_name="choose sets")
def choose_sets(formed: Sequence[StageRef], setup: BuildSetup) -> StageRef:
    """Keeps the best sets that are most unlike each other."""
    from iclora import sift

    return sift.choose_sets(Store(setup.store), formed, setup.config)


@stage_task(name="stitch", task_run_name="stitch {setup.title}")
def stitch_sets(
    ingested: Sequence[StageRef], chosen: StageRef, setup: BuildSetup
) -> list[StageRef]:
    """Stitches each source's chosen sets."""
    from iclora.panels import stitch_source

    store = _store(setup)
    return each(setup.parcel, lambda ref: stitch_source(store, ref, chosen, setup.config), ingested)


@stage_task(name="caption", task_run_name="caption {setup.title}", tags=["captioner"])
def caption_sets(stitched: Sequence[StageRef], setup: BuildSetup) -> list[StageRef]:
    """Captions each source's canvases."""
    from iclora.captions import caption_source

    store = _store(setup)
    return each(setup.parcel, lambda ref: caption_source(store, ref, setup.config), stitched)


@stage_task(name="gather", task_run_name="gather")
def gather(
    ingested: Sequence[StageRef],
    scored: Sequence[StageRef],
    formed: Sequence[StageRef],
    stitched: Sequence[StageRef],
    captioned: Sequence[StageRef],
) -> list[SourceStages]:
    """Everything made of each source, by reference."""
    fields = ("ingested", "scored", "formed", "stitched", "captioned")
    made = zip(ingested, scored, formed, stitched, captioned, strict=True)
    return [SourceStages(**dict(zip(fields, one, strict=True))) for one in made]


@stage_task(name="publish dataset", task_run_name="publish dataset {job.setup.name}")
def publish_dataset(stages: Sequence[SourceStages], chosen: StageRef, job: BuildJob) -> DatasetRef:
    """Writes shards, tables and card; moves LATEST last."""
    from iclora.shards import publish

    return publish.publish_dataset(
        Store(job.setup.store),
        job.setup.name,
        job.setup.config,
        sources=job.sources,
        refused=job.refused,
        stages=stages,
        chosen=chosen,
        review=job.review,
    )


def _store(setup: BuildSetup) -> Store:
    """The store, for a task that may be on another machine."""
    load_secrets_once(setup)
    return Store(setup.store)


def _stop_if_failing(setup: BuildSetup, *stages: Sequence[StageRef]) -> None:
    """Ends a build in which too much failed before dearer stages begin.

    Raises:
        BuildStopped: more of a stage failed than ``ingest.max_failed`` allows.
        BadInput: nothing could be read.
    """
    watch = Watch(Store(setup.store), setup.config.ingest.max_failed, Quiet())
    for refs in stages:
        watch.expect(len(refs), refs[0].stage)
        for ref in refs:
            watch.done(ref)
