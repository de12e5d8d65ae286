"""A build whose sources share task runs: what it makes, what fails in it, how it is shown."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)

import iclora.build
from iclora.build import build_dataset as build_in_process
from iclora.dataset.reader import open_dataset
from iclora.miniature.film import encode_film
from iclora.miniature.script import film_script
from iclora.presets import load_config
from iclora.store import Store
from tasks import build, executor

STEPS = ("read", "caption likely sets of", "form sets of", "stitch", "caption")
SHOTS = 6
SETTINGS: dict[str, Any] = {"ingest.max_failed_share": 1.0, "filter.max_set_similarity": 1.0}
BAD = "1-bad.mp4"
"""No film, in the middle of the first batch."""


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Two films and a text file between them, then a film of another batch."""
    folder = tmp_path_factory.mktemp("films")
    for seed in (0, 2, 3):
        film = film_script(seed)
        encode_film(
            film.model_copy(update={"shots": film.shots[:SHOTS]}), folder / f"{seed}-film.mp4"
        )
    (folder / BAD).write_text("no film")
    return str(folder)


@pytest.fixture(scope="module")
def calm(films, tmp_path_factory):
    """What ``iclora build`` makes of them."""
    store = Store(str(tmp_path_factory.mktemp("calm")))
    build_in_process(store, [films], load_config("miniature", SETTINGS), "films")
    return files_of(store)


def files_of(store):
    folder = Path(open_dataset(store, "films").url)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def _three_and_one(monkeypatch):
    """Batches as they are of hundreds of sources, of four."""

    def divide(sizes, cores):
        assert len(sizes) == 4
        assert cores >= 1
        return 3, 1

    monkeypatch.setattr(build, "batch_sizes", divide)


@pytest.fixture
def run(films, store, monkeypatch):
    """Builds by the flow, without the pause before another try."""
    from flows.build_dataset import build_dataset

    monkeypatch.setattr(executor, "run_step", executor.run_step.with_options(retry_delay_seconds=0))

    return partial(
        build_dataset,
        [films],
        "miniature",
        "",
        "films",
        str(store.root),
        SETTINGS,
        return_state=True,
    )


def task_runs(state):
    """The names of a flow run's task runs, as the UI lists them."""
    only = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        return {run.name for run in client.read_task_runs(flow_run_filter=only)}


@pytest.mark.usefixtures("prefect", "_three_and_one")
def test_batches_make_the_same_bytes_and_a_bad_source_has_its_verdict(run, store, calm):
    state = run()
    state.result()
    assert files_of(store) == calm
    known = open_dataset(store, "films").manifest
    assert known.ledger["ingest"].failed == 1
    assert {source.name.partition("@")[0]: source.samples > 0 for source in known.sources} == {
        "0-film.mp4": True, BAD: False, "2-film.mp4": True, "3-film.mp4": True,
    }  # fmt: skip
    titles = ("0-film.mp4 and 2 more", "3-film.mp4")
    expected = {f"{step} {title}" for step in STEPS for title in titles}
    deadline = time.monotonic() + 30
    while missing := expected - task_runs(state):  # the server writes them down a little later
        assert time.monotonic() < deadline, missing
        time.sleep(0.2)
    of_this_run = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    )
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(artifact_filter=of_this_run, limit=200)
    shown = {artifact.key: artifact for artifact in artifacts}
    assert "4 of 4 parts done" in str(shown["ingest-films"].description)
    assert "2-film.mp4" in str(shown["ingest-films"].data)
    assert shown["build-films"].data == 100


@pytest.mark.usefixtures("prefect", "_three_and_one")
def test_a_source_that_fails_costs_its_neighbours_nothing(run, store, calm, monkeypatch, caplog):
    """And what of a batch was done is found done when it is tried again."""
    caplog.set_level("INFO", "iclora.pipeline.stage")
    real, tries = iclora.build.ingest_source, []

    def flaky(store, source, config, report):
        tries.append(source.name.partition("@")[0])
        if source.name.startswith("0-"):
            raise OSError("the disk of the first film is away")
        return real(store, source, config, report)

    with monkeypatch.context() as patched:
        patched.setattr(iclora.build, "ingest_source", flaky)
        state = run()
    with pytest.raises(OSError, match="the disk of the first film is away"):
        state.result()
    assert tries.count("0-film.mp4") == tries.count("2-film.mp4") == 3
    said = [record.args for record in caplog.records if record.msg == "%s %s done"]
    done = [digest for stage, digest in said if stage == "ingest"]
    assert len(done) == len(set(done)) >= 2, "the neighbours, once each"
    assert set(done) == set(store.listdir("stages/ingest"))
    run().result()
    assert files_of(store) == calm
