"""A training on an object store goes on where another machine left it."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from iclora.errors import IcloraError
from iclora.store import Store
from iclora.training import train_adapter
from iclora.training.remote_checkpoints import RemoteCheckpoints
from schemas.adapter import AdapterManifest, RunRecord

URL = "s3://bucket/somewhere"
TOLD = {"run.json", "README.md", "manifest.json"}


@pytest.fixture(scope="module")
def server():
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    yield "http://{}:{}".format(*moto.get_host_and_port())
    moto.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": server,
    }.items():
        monkeypatch.setenv(name, value)
    made = boto3.resource("s3", endpoint_url=server).Bucket("bucket")
    made.create()
    yield made
    made.objects.delete()
    made.delete()


@pytest.fixture
def longer(config):
    train = config.train.model_copy(
        update={"steps": 9, "save_every": 2, "keep_checkpoints": 2, "sample_every": 3}
    )
    return config.model_copy(update={"train": train})


class Killed(BaseException):
    """What a test raises in place of a power cut: nothing of ours handles it."""


def killed_at(step):
    def watch(report):
        if report.step == step:
            raise Killed

    return watch


def upload_datasets(store: Store, there: Store) -> None:
    for path in (Path(store.root) / "datasets").rglob("*"):
        if path.is_file():
            there.write(path.relative_to(store.root).as_posix(), path.read_bytes())


def on_machine(number, tmp_path, monkeypatch):
    """The store as another machine sees it: with a work folder of its own."""
    monkeypatch.setenv("ICLORA_WORK", str(tmp_path / f"machine-{number}"))
    return Store(URL)


def test_another_machine_goes_on_and_ends_with_the_same_bytes(
    store, dataset, longer, bucket, tmp_path, monkeypatch
):
    calm = train_adapter(store, dataset, longer, "mine")
    untouched = AdapterManifest.from_text((Path(calm.url) / "manifest.json").read_bytes()).digests

    first = on_machine(1, tmp_path, monkeypatch)
    upload_datasets(store, first)
    with pytest.raises(Killed):
        train_adapter(first, "demo", longer, "mine", progress=killed_at(5))
    place = f"adapters/mine/{calm.version}"
    assert first.listdir(f"{place}/checkpoints") == ["step-00000002", "step-00000004"]
    assert not first.exists(f"{place}/manifest.json")

    second = on_machine(2, tmp_path, monkeypatch)
    ref = train_adapter(second, "demo", longer, "mine", resume=calm.version)
    assert (ref.version, ref.resumed_from) == (calm.version, 4)
    manifest = AdapterManifest.from_text(second.read(f"{place}/manifest.json"))
    assert {k: v for k, v in manifest.digests.items() if k not in TOLD} == {
        k: v for k, v in untouched.items() if k not in TOLD
    }
    there = {path.removeprefix(f"{second.root}/") for path in second.fs.find(second.path(place))}
    assert there == {f"{place}/{name}" for name in [*manifest.digests, "manifest.json"]}
    assert RunRecord.from_text(second.read(f"{place}/run.json")).resumed_from == 4


def test_half_an_upload_is_no_checkpoint(longer, bucket, tmp_path, monkeypatch):
    there = on_machine(1, tmp_path, monkeypatch)
    there.write("adapters/mine/v/checkpoints/step-00000003/raw.safetensors", b"half")
    folder = tmp_path / "here"
    RemoteCheckpoints(there, "adapters/mine/v", folder).pull()
    assert not folder.exists()


def test_a_network_that_fails_does_not_stop_the_training(
    store, dataset, longer, bucket, tmp_path, monkeypatch, caplog
):
    there = on_machine(1, tmp_path, monkeypatch)
    upload_datasets(store, there)
    plain = Store.write

    def cut(self, relative, data):
        if "checkpoints/" in relative:
            raise IcloraError("the network is gone")
        plain(self, relative, data)

    monkeypatch.setattr(Store, "write", cut)
    ref = train_adapter(there, "demo", longer, "mine")
    assert ref.steps == 9
    assert "this checkpoint is on this machine alone" in caplog.text
