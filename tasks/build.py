"""A build as Prefect runs it: planned in a task, then every step a task run per batch of sources.

The library is imported when a task runs: serving or scheduling a flow does not wait for decoders
and arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iclora.presets import load_config
from iclora.store import Store
from schemas.job import BuildJob, BuildResult
from tasks import places
from tasks.build_progress import show_progress
from tasks.executor import PrefectExecutor, batch_sizes
from tasks.names import at_a_time, run_name, stage_task
from tasks.secrets import load_secrets


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
    from iclora import build
    from iclora.miniature.demo import render_demo
    from iclora.shards.publish import check_name
    from iclora.shards.review import read_review

    check_name(name)
    config = load_config(preset, overrides)
    load_secrets(places.home(store), config)
    opened = Store(places.home(store))
    choices = read_review(Path(review), config) if review else ()
    locations = sources or [str(render_demo(opened.work / "demo-films"))]
    return build.plan_build(opened, locations, config, name, choices)


def run_build(job: BuildJob) -> BuildResult:
    """Runs the stages of a build as task runs, and shows how it goes."""
    from iclora import build
    from iclora.ingest.fetch import size_at

    work = Store(job.store).work
    batches = batch_sizes([size_at(source.url, work) for source in job.sources], at_a_time())
    with show_progress(job) as progress:
        return build.run_build(job, PrefectExecutor(job, batches), progress, run_name())
