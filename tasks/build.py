"""A build as Prefect runs it: planned in a task, then every step a task run per batch of sources.

The library is imported when a task runs: serving or scheduling a flow does not wait for decoders
and arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iclora.presets import load_config, require_preset
from iclora.store import Store
from schemas.job import BuildJob, BuildResult
from tasks import environment
from tasks.build_progress import show_progress
from tasks.executor import PrefectExecutor, batch_sizes
from tasks.prefect_defaults import max_concurrent_runs, run_name, stage_task


@stage_task(name="plan build", task_run_name="plan build of {name}")
def plan_build(
    sources: Sequence[str],
    preset: str,
    base: str,
    name: str,
    store: str,
    overrides: dict[str, Any],
    review: str,
) -> BuildJob:
    """Resolves the settings and the sources; without sources, renders the demo's films."""
    from iclora import build
    from iclora.dataset.review import read_review
    from iclora.miniature.demo import render_demo
    from iclora.names import check_name

    check_name(name, "a dataset")
    if sources:
        require_preset(preset, base)
    config = load_config(preset, overrides, base=base)
    url = environment.resolve_store(store)
    environment.load_secrets(url, config)
    opened = Store(url)
    choices = read_review(Path(review), config) if review else ()
    locations = sources or [str(render_demo(opened.work_folder / "demo-films"))]
    return build.plan_build(opened, locations, config, name, choices)


def run_build(job: BuildJob) -> BuildResult:
    """Runs the stages of a build as task runs, and shows how it goes."""
    from iclora import build
    from iclora.ingest.download import size_of

    work = Store(job.store).work_folder
    batches = batch_sizes(
        [size_of(source.url, work) for source in job.sources], max_concurrent_runs()
    )
    with show_progress(job) as progress:
        return build.run_build(job, PrefectExecutor(job, batches), progress, run_name())
