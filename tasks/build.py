"""The stages of a build, as Prefect runs them: one task a source and stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iclora import captions, ingest, panels, shards, sift
from iclora.miniature.demo import render_demo
from iclora.presets import load_config
from iclora.store import Store
from schemas.dataset import DatasetRef
from schemas.job import BuildJob
from schemas.sift import BandParams
from schemas.source import Source
from schemas.stage import SourceStages, StageRef
from tasks.names import stage_task


@stage_task(name="plan build")
def plan_build(
    sources: Sequence[str], preset: str, name: str, store: str, overrides: dict[str, Any]
) -> BuildJob:
    """Resolves the settings and the sources; without sources, renders the demo's films."""
    config = load_config(preset, overrides)
    work = Store(store).work
    found, refused = ingest.resolve_sources(
        sources or [str(render_demo(work / "demo-films"))], config.ingest, work
    )
    return BuildJob(store=store, name=name, config=config, sources=found, refused=refused)


@stage_task(name="ingest", task_run_name="ingest {source.name}")
def ingest_source(source: Source, job: BuildJob) -> StageRef:
    """Cuts one source into shots and frames."""
    return ingest.ingest_source(Store(job.store), source, job.config)


@stage_task(name="score frames")
def score_frames(ingested: StageRef, job: BuildJob) -> StageRef:
    """Measures the quality and the CLIP embeddings of one source's frames."""
    return sift.score_frames(Store(job.store), ingested, job.config)


@stage_task(name="calibrate")
def calibrate(scored: Sequence[StageRef], job: BuildJob) -> BandParams:
    """Turns percentiles into this dataset's own similarity bounds."""
    return sift.calibrate(Store(job.store), scored, job.config)


@stage_task(name="form sets")
def form_sets(scored: StageRef, bounds: BandParams, job: BuildJob) -> StageRef:
    """Groups one source's frames into sets."""
    return sift.form_sets(Store(job.store), scored, bounds, job.config)


@stage_task(name="choose sets")
def choose_sets(formed: Sequence[StageRef], job: BuildJob) -> StageRef:
    """Keeps the best sets that are most unlike each other."""
    return sift.choose_sets(Store(job.store), formed, job.config)


@stage_task(name="stitch")
def stitch_sets(ingested: StageRef, chosen: StageRef, job: BuildJob) -> StageRef:
    """Stitches one source's chosen sets."""
    return panels.stitch_source(Store(job.store), ingested, chosen, job.config)


@stage_task(name="caption", tags=["captioner"])
def caption_sets(stitched: StageRef, job: BuildJob) -> StageRef:
    """Captions one source's canvases."""
    return captions.caption_source(Store(job.store), stitched, job.config)


@stage_task(name="gather")
def gather(
    ingested: StageRef, scored: StageRef, formed: StageRef, stitched: StageRef, captioned: StageRef
) -> SourceStages:
    """Everything made of one source, by reference."""
    return SourceStages(
        ingested=ingested, scored=scored, formed=formed, stitched=stitched, captioned=captioned
    )


@stage_task(name="publish dataset")
def publish_dataset(stages: Sequence[SourceStages], chosen: StageRef, job: BuildJob) -> DatasetRef:
    """Writes shards, tables and card; moves LATEST last."""
    return shards.publish_dataset(
        Store(job.store),
        job.name,
        job.config,
        sources=job.sources,
        refused=job.refused,
        stages=stages,
        chosen=chosen,
    )
