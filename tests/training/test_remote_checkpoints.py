"""A training on an object store goes on where another machine left it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from training_child import start_together, train_together
from training_config import with_train

from iclora.errors import IcloraError
from iclora.store import Store
from iclora.train import train_adapter
from iclora.training.checkpoint import RemoteCheckpoints
from iclora.training.metrics import TENSORBOARD, read_metrics
from schemas.adapter import AdapterManifest, RunRecord

URL = "s3://bucket/somewhere"
TOLD = {"run.json", "README.md", "manifest.json"}


@pytest.fixture
def longer(config):
    return with_train(config, steps=9, save_every=2, keep_checkpoints=2, sample_every=3)


class Killed(BaseException):
    """What a test raises in place of a power cut: nothing of ours handles it."""


def killed_at(step):
    def watch(report):
        if report.step == step:
            raise Killed

    return watch


def on_machine(number, tmp_path, monkeypatch):
    """The store as another machine sees it: with a work folder of its own."""
    monkeypatch.setenv("ICLORA_WORK", str(tmp_path / f"machine-{number}"))
    return Store(URL)


def test_another_machine_goes_on_and_ends_with_the_same_bytes(
    store, dataset, longer, bucket, upload, tmp_path, monkeypatch
):
    calm = train_adapter(store, dataset, longer, "mine")
    untouched = lasting((Path(calm.url) / "manifest.json").read_bytes())

    first = on_machine(1, tmp_path, monkeypatch)
    upload(store, first)
    with pytest.raises(Killed):
        train_adapter(first, "demo", longer, "mine", progress=killed_at(5))
    place = f"adapters/mine/{calm.version}"
    assert first.listdir(f"{place}/checkpoints") == ["step-00000002", "step-00000004"]
    assert not first.exists(f"{place}/manifest.json")

    second = on_machine(2, tmp_path, monkeypatch)
    ref = train_adapter(second, "demo", longer, "mine", resume=calm.version)
    assert (ref.version, ref.resumed_from) == (calm.version, 4)
    manifest = AdapterManifest.from_text(second.read(f"{place}/manifest.json"))
    assert lasting(second.read(f"{place}/manifest.json")) == untouched
    there = {path.removeprefix(f"{second.root}/") for path in second.fs.find(second.path(place))}
    assert there == {f"{place}/{name}" for name in [*manifest.digests, "manifest.json"]}
    assert RunRecord.from_text(second.read(f"{place}/run.json")).resumed_from == 4


def lasting(text):
    """Digests of the files that do not tell of this very run."""
    digests = AdapterManifest.from_text(text).digests
    return {
        name: digest
        for name, digest in digests.items()
        if name not in TOLD and not name.startswith(f"{TENSORBOARD}/")
    }


def machines(tmp_path, *names):
    """Environments of machines that share the bucket and nothing else."""
    reach = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return [{**reach, "ICLORA_WORK": str(tmp_path / name)} for name in names]


def finish(processes):
    """Waits for processes that end well."""
    for process in processes:
        process.join(400)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def kill_at(step, work, processes):
    """Ends all processes as a power cut does, once the first has written a step down."""
    end = time.monotonic() + 400
    while not any(len(read_metrics(file)) >= step for file in work.glob("*/mine-*/metrics.jsonl")):
        assert time.monotonic() < end
        time.sleep(0.005)
    for process in processes:
        process.kill()
        process.join()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_machines_killed_twice_end_with_the_same_bytes(
    store, dataset, longer, bucket, upload, tmp_path
):
    """The second machine has no checkpoint of its own, nor has the first when it is a new one."""
    text = [longer.to_text()]
    finish(start_together(tmp_path, train_together, store.url, text, environments=[{}, {}]))
    (untouched,) = Path(store.root).glob("adapters/mine/*/manifest.json")
    upload(store, Store(URL))

    first = machines(tmp_path, "one", "two")
    for step in (5, 7):
        dist = start_together(tmp_path, train_together, URL, text, 0.2, environments=first)
        kill_at(step, tmp_path / "one", dist)
    place = f"adapters/mine/{untouched.parent.name}"
    assert not Store(URL).exists(f"{place}/manifest.json")

    others = machines(tmp_path, "three", "four")
    finish(start_together(tmp_path, train_together, URL, text, environments=others))
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert said == [f"{untouched.parent.name} after 6"] * 2
    assert lasting(Store(URL).read(f"{place}/manifest.json")) == lasting(untouched.read_bytes())


def test_half_an_upload_is_no_checkpoint(longer, bucket, tmp_path, monkeypatch):
    there = on_machine(1, tmp_path, monkeypatch)
    there.write("adapters/mine/v/checkpoints/step-00000003/raw.safetensors", b"half")
    folder = tmp_path / "here"
    RemoteCheckpoints(there, "adapters/mine/v", folder).pull()
    assert not folder.exists()


def test_a_network_that_fails_does_not_stop_the_training(
    store, dataset, longer, bucket, upload, tmp_path, monkeypatch, caplog
):
    there = on_machine(1, tmp_path, monkeypatch)
    upload(store, there)
    plain = Store.write

    def cut(self, relative, data):
        if "checkpoints/" in relative:
            raise IcloraError("the network is gone")
        plain(self, relative, data)

    monkeypatch.setattr(Store, "write", cut)
    ref = train_adapter(there, "demo", longer, "mine")
    assert ref.steps == 9
    assert "this checkpoint is on this machine alone" in caplog.text
