"""Training and evaluation as their Prefect tasks start them; the training on two processes."""

from __future__ import annotations

import logging
import socket
import weakref

import pytest
from prefect import flow
from training_config import with_train

from iclora.errors import UserError
from iclora.models.clip import load_clip
from schemas.job import EvaluateJob, TrainJob
from tasks import evaluation, training

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture(autouse=True)
def _two_processes(monkeypatch):
    """On a CPU too: without a GPU, ``--multi_gpu`` makes a team by gloo."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    monkeypatch.setenv(
        training.LAUNCH,
        "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no "
        f"--main_process_port {port}",
    )


def start(store, dataset, config):
    job = TrainJob(store=store.url, name="mine", config=config, dataset=dataset)

    @flow
    def trains():
        return training.train(job)

    return trains()


@pytest.fixture
def loaded(family):
    """A model that a build in this process left loaded, and nobody holds."""
    return weakref.ref(load_clip(str(family / "clip")))


def test_two_processes_give_one_adapter(store, dataset, config, loaded):
    assert loaded() is not None
    adapter = start(store, dataset, config)
    assert adapter.steps == 4
    record = store.read(f"adapters/mine/{adapter.version}/run.json").decode()
    assert '"processes":2' in record.replace(" ", "")
    assert loaded() is None, "the child found all memory free"


def test_an_evaluation_finds_all_memory_free(store, loaded):
    @flow
    def evaluates():
        return evaluation.evaluate(
            EvaluateJob(store=store.url, adapter="none", against="", dataset="", promote=False)
        )

    assert loaded() is not None
    with pytest.raises(UserError, match="none"):
        evaluates()
    assert loaded() is None


def test_a_mistake_that_both_meet_is_one_sentence_and_not_tried_again(
    store, dataset, config, caplog
):
    caplog.set_level(logging.INFO, "iclora.subprocess_task")
    with pytest.raises(
        UserError, match=r"^train\.panel_weights has 2 values, but \S+ has 3 panels"
    ):
        start(store, dataset, with_train(config, panel_weights=(1.0, 1.0)))
    assert [r.getMessage()[:7] for r in caplog.records].count("by hand") == 1
