"""Killed at any moment, a run goes on and ends with the same bytes."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from training_child import FORKS, work
from training_config import with_train

from iclora.errors import BadConfig, BadInput
from iclora.store import Store, file_sha256
from iclora.train import train_adapter
from iclora.training.checkpoint import checkpoints, step_of
from iclora.training.metrics import TENSORBOARD, read_metrics
from iclora.training.signals import TrainingInterrupted
from schemas.adapter import RunRecord


@pytest.fixture(scope="module")
def longer(config):
    data = config.data.model_copy(update={"caption_dropout": 0.3})
    return with_train(
        config.model_copy(update={"data": data}),
        steps=9, save_every=3, keep_checkpoints=2, validate_every=5, conditional_probability=0.5,
    )  # fmt: skip


def child(store, config, delay=0.0, **options):
    """Starts a training in another process; ``delay`` slows every step down."""
    process = FORKS.Process(target=work, args=(store.url, config.to_text(), delay, options))
    process.start()
    return process


def journal(store):
    return next((store.work_folder / "training").glob("mine-*/metrics.jsonl"), None)


def until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the child never got there"
        time.sleep(0.005)


def reached(store, step):
    return lambda: (path := journal(store)) is not None and len(read_metrics(path)) >= step


def saved(store):
    """The step of the newest checkpoint."""
    found = [step_of(p) for p in (store.work_folder / "training").glob("mine-*/checkpoints/step-*")]
    return max(found, default=0)


def files(ref):
    """The adapter's files that must not depend on kills."""
    folder = Path(ref.url)
    told = {"run.json", "README.md", "manifest.json"}
    return {
        str(path.relative_to(folder)): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in told and path.parent.name != TENSORBOARD
    }


@pytest.fixture(scope="module")
def untouched(tmp_path_factory, publish, samples, longer):
    """The files of a run that nothing interrupted."""
    store = Store(str(tmp_path_factory.mktemp("untouched")))
    return files(train_adapter(store, publish(store, samples), longer, "mine"))


def test_ten_random_kills_end_in_identical_bytes(store, dataset, longer, untouched):
    chance = random.Random(7)
    for _ in range(10):
        target = min(saved(store) + chance.randint(0, 4), longer.train.steps - 1)
        process = child(store, longer, delay=0.02)
        until(reached(store, target))
        time.sleep(chance.uniform(0.0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    resumed = train_adapter(store, "demo", longer, "mine")
    assert files(resumed) == untouched
    assert resumed.resumed_from >= 3
    assert {"mine.safetensors", "mine-raw.safetensors", "metrics.jsonl"} < untouched.keys()


def test_sigterm_saves_first_and_leaves_no_trace(store, dataset, longer, untouched):
    process = child(store, longer, delay=0.1)
    until(reached(store, 4))
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == TrainingInterrupted.exit_code
    (folder,) = (store.work_folder / "training").glob("mine-*")
    saved = [path.name for path in checkpoints(folder / "checkpoints")]
    done = len([row for row in read_metrics(folder / "metrics.jsonl") if "loss" in row])
    assert saved[-1] == f"step-{done:08d}"

    ref = train_adapter(store, "demo", longer, "mine")
    assert ref.resumed_from == done
    assert files(ref) == untouched
    record = RunRecord.from_text(store.read(f"adapters/mine/{ref.version}/run.json"))
    assert record.counts["steps_this_stretch"] == 9 - done


def test_ctrl_c_saves_first(store, dataset, longer):
    process = child(store, longer, delay=0.1)
    until(reached(store, 2))
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 130
    (folder,) = (store.work_folder / "training").glob("mine-*/checkpoints")
    assert int(checkpoints(folder)[-1].name[-8:]) >= 2


def test_resuming_as_another_run_shows_the_difference(store, dataset, longer):
    process = child(store, longer, delay=0.1)
    until(reached(store, 4))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (folder,) = (store.work_folder / "training").glob("mine-*")
    version = folder.name.removeprefix("mine-")

    faster = with_train(longer, optimizer={"lr": 0.5})
    with pytest.raises(BadConfig, match=r"train\.optimizer\.lr: 0\.001 -> 0\.5"):
        train_adapter(store, "demo", faster, "mine", resume=version)
    with pytest.raises(BadInput, match="no checkpoint"):
        train_adapter(store, "demo", longer, "mine", resume="0" * 16)

    more = with_train(longer, keep_checkpoints=3)
    ref = train_adapter(store, "demo", more, "mine", resume=version)
    assert ref.version == version
    assert ref.resumed_from >= 3


def test_a_second_process_waits_and_finds_it_done(store, dataset, longer):
    first = child(store, longer, delay=0.05)
    until(reached(store, 1))
    second = child(store, longer)
    first.join()
    second.join()
    assert first.exitcode == second.exitcode == 0
    assert len(store.listdir("adapters/mine")) == 2  # the version and LATEST
