"""Raw footage to a verified dataset version."""

from __future__ import annotations

from typing import Any

from prefect import flow, unmapped

from schemas.dataset import DatasetRef
from tasks import build, names, report


@flow(name="build-dataset", flow_run_name="build {name}", task_runner=names.runner())
def build_dataset(
    sources: list[str] | None = None,
    preset: str = "miniature",
    name: str = "demo",
    store: str = "./store",
    overrides: dict[str, Any] | None = None,
) -> DatasetRef:
    """Turns films, folders, archives and datasets of pictures into captioned, verified shards.

    Args:
        sources: files, folders, URLs or hub ids; empty renders and uses the demo's films.
        preset: a preset's name, or a TOML file.
        name: of the dataset; each build that finds something new adds a version.
        store: folder or URL (such as s3://bucket/prefix) where everything is kept.
        overrides: dotted keys and values over the preset, such as {"sift.max_sets": 50}.
    """
    job = build.plan_build(sources or [], preset, name, store, overrides or {})
    ingested = build.ingest_source.map(list(job.sources), job=unmapped(job))
    scored = build.score_frames.map(ingested, job=unmapped(job))
    bounds = build.calibrate(scored.result(), job)
    formed = build.form_sets.map(scored, bounds=unmapped(bounds), job=unmapped(job))
    chosen = build.choose_sets(formed.result(), job)
    stitched = build.stitch_sets.map(ingested, chosen=unmapped(chosen), job=unmapped(job))
    captioned = build.caption_sets.map(stitched, job=unmapped(job))
    stages = build.gather.map(ingested, scored, formed, stitched, captioned)
    dataset = build.publish_dataset(stages.result(), chosen, job)
    report.show_dataset(dataset, job)
    return dataset


if __name__ == "__main__":
    build_dataset()
