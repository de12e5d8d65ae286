"""The stages of a build, as Prefect runs them: one task a source and stage.

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
from schemas.job import BuildJob, BuildSetup
from schemas.sift import BandParams
from schemas.source import Source
from schemas.stage import Scored, SourceStages, StageRef
from tasks import places
from tasks.names import stage_task
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
        sources=found,
        refused=refused,
        review=choices,
        latest=places.read_line(place, f"datasets/{name}/{LATEST}"),
    )


@stage_task(name="ingest", task_run_name="ingest {setup.source}")
def ingest_source(source: Source, setup: BuildSetup) -> StageRef:
    """Cuts one source into shots and frames."""
    from iclora import ingest

    return ingest.ingest_source(_store(setup), source, setup.config)


@stage_task(name="score frames", task_run_name="score frames of {setup.source}")
def score_frames(ingested: StageRef, setup: BuildSetup) -> StageRef:
    """Measures the quality and the CLIP embeddings of one source's frames."""
    from iclora import sift

    return sift.score_frames(_store(setup), ingested, setup.config)


@stage_task(name="caption ahead", task_run_name="caption ahead {setup.source}", tags=["captioner"])
def caption_ahead(ingested: StageRef, scored: StageRef, setup: BuildSetup, sources: int) -> None:
    """Captions the sets of one source that will most likely be chosen, while others are read."""
    from iclora.ahead import stitch_ahead
    from iclora.captions import caption_source

    store = _store(setup)
    stitched = stitch_ahead(store, ingested, scored, setup.config, sources)
    if stitched is not None:
        caption_source(store, stitched, setup.config)


@stage_task(name="calibrate", task_run_name="calibrate")
def calibrate(scored: Sequence[StageRef], setup: BuildSetup) -> BandParams:
    """Turns percentiles into this dataset's own similarity bounds."""
    from iclora import sift

    store = Store(setup.store)
    ingested = [result_of(store, ref, Scored).ingested for ref in scored]
    _stop_if_failing(setup, ingested, scored)
    return sift.calibrate(store, scored, setup.config)


@stage_task(name="form sets", task_run_name="form sets of {setup.source}")
def form_sets(scored: StageRef, bounds: BandParams, setup: BuildSetup) -> StageRef:
    """Groups one source's frames into sets."""
    from iclora import sift

    return sift.form_sets(_store(setup), scored, bounds, setup.config)


@stage_task(name="choose sets", task_run_name="choose sets")
def choose_sets(formed: Sequence[StageRef], setup: BuildSetup) -> StageRef:
    """Keeps the best sets that are most unlike each other."""
    from iclora import sift

    return sift.choose_sets(Store(setup.store), formed, setup.config)


@stage_task(name="stitch", task_run_name="stitch {setup.source}")
def stitch_sets(ingested: StageRef, chosen: StageRef, setup: BuildSetup) -> StageRef:
    """Stitches one source's chosen sets."""
    from iclora import panels

    return panels.stitch_source(_store(setup), ingested, chosen, setup.config)


@stage_task(name="caption", task_run_name="caption {setup.source}", tags=["captioner"])
def caption_sets(stitched: StageRef, setup: BuildSetup) -> StageRef:
    """Captions one source's canvases."""
    from iclora import captions

    return captions.caption_source(_store(setup), stitched, setup.config)


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
