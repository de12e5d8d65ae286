"""Kills in the middle of orchestrated runs: nothing lost or doubled, and the states are true."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil
import pytest
from drill_tools import adapter_files, files_of, kill_all, until

from iclora.training.metrics import read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def building(operations, store, films, overrides):
    """Asks for a build."""
    return operations.start(
        "build-dataset",
        sources=[str(film) for film in films],
        name="films",
        store=store.url,
        overrides=overrides,
    )


def test_the_worker_dies_in_a_build_and_the_next_run_completes(
    operations, store, films, overrides, captioner, calm
):
    captioner.delay = 0.5
    run = building(operations, store, films, overrides)
    until(lambda: captioner.asked, what="nothing was captioned")
    operations.process("worker-iclora-cpu").kill()
    assert operations.ended(run) == "CRASHED", "Prefect ends the runs of a worker that is gone"
    assert not store.exists("datasets")
    operations.up()
    captioner.delay = 0.0
    again = building(operations, store, films, overrides)
    assert operations.ended(again) == "COMPLETED", operations.message(again)
    assert files_of(store) == calm


def test_the_worker_and_its_run_die_in_a_build_and_the_next_run_completes(
    operations, store, films, overrides, captioner, calm
):
    captioner.delay = 0.5
    run = building(operations, store, films, overrides)
    until(lambda: captioner.asked, what="nothing was captioned")
    kill_all(operations.process("worker-iclora-cpu"))
    assert operations.state(run) == "RUNNING", "nobody can know yet"
    operations.up()
    captioner.delay = 0.0
    again = building(operations, store, films, overrides)
    assert operations.ended(again) == "COMPLETED", operations.message(again)
    assert files_of(store) == calm
    assert len(store.listdir("datasets/films")) == 2, "LATEST and one version"
    assert operations.ended(run) == "CRASHED", "its heart stopped"
    assert "heartbeat" in operations.message(run)


def test_two_runs_of_one_deployment_at_once(operations, store, films, overrides, captioner, calm):
    captioner.delay = 0.2
    runs = [building(operations, store, films, overrides) for _ in range(2)]
    assert [operations.ended(run) for run in runs] == ["COMPLETED"] * 2
    assert files_of(store) == calm
    assert len(store.listdir("datasets/films")) == 2, "LATEST and one version"


def made(store):
    (folder,) = [path.parent for path in Path(store.root).glob("adapters/mine/*/manifest.json")]
    return adapter_files(folder)


def training(operations, store, steps):
    return operations.start(
        "train-adapter", dataset="films", name="mine", store=store.url, overrides=steps
    )


def step_of(store):
    """The last step that is written down."""
    journals = (store.work_folder / "training").glob("mine-*/metrics.jsonl")
    return max((len(read_metrics(path)) for path in journals), default=0)


def child_of(worker):
    """The training's own process."""
    for process in worker.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[1:4] == ["-m", "iclora", "train"]:
                return process
    return None


def test_the_server_dies_in_a_training_and_comes_back(operations, untrained, trained, steps):
    run = training(operations, untrained, steps)
    until(lambda: step_of(untrained) >= 3, what="training did not begin")
    kill_all(operations.process("server"))
    time.sleep(3)
    operations.up()
    assert operations.ended(run) == "COMPLETED", operations.message(run)
    assert made(untrained) == trained[1]


def test_the_training_child_dies_more_often_than_it_is_tried_again(
    operations, untrained, trained, steps
):
    run = training(operations, untrained, steps)
    worker = operations.process("worker-iclora-gpu")
    dead = []
    for kill in range(3):
        until(lambda kill=kill: step_of(untrained) >= 7 * (kill + 1), what="no progress")
        until(lambda: (found := child_of(worker)) and found.pid not in dead)
        child = child_of(worker)
        dead.append(child.pid)
        child.kill()
    assert operations.ended(run) == "FAILED"
    assert "ended with code" in operations.message(run), "the code is the launcher's"
    again = training(operations, untrained, steps)
    assert operations.ended(again) == "COMPLETED", operations.message(again)
    assert made(untrained) == trained[1]


def test_the_training_child_dies_once_and_the_run_completes(operations, untrained, trained, steps):
    run = training(operations, untrained, steps)
    until(lambda: step_of(untrained) >= 12, what="training did not begin")
    child_of(operations.process("worker-iclora-gpu")).kill()
    assert operations.ended(run) == "COMPLETED", operations.message(run)
    assert made(untrained) == trained[1]
