"""The store on a server that speaks S3, over a network that cuts connections and a busy server."""

from __future__ import annotations

import json
import os

import boto3
import pytest
from drill_tools import files_of, start_build
from moto.server import ThreadedMotoServer
from proxy import Proxy

from iclora.dataset import open_dataset
from iclora.dataset.verify import verify_dataset
from iclora.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("captioner")]

URL = "s3://bucket/somewhere"


@pytest.fixture(scope="module")
def moto():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def way(moto):
    """One proxy for all: clients of this process remember their address."""
    proxy = Proxy(moto.get_host_and_port()[1])
    yield proxy
    proxy.close()


@pytest.fixture
def network(way, monkeypatch, tmp_path):
    """The way to an empty bucket."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": way.url,
        "ICLORA_WORK": str(tmp_path / "work"),
    }.items():
        monkeypatch.setenv(name, value)
    way.mend()
    bucket = boto3.resource("s3").Bucket("bucket")
    bucket.create()
    yield way
    way.mend()
    bucket.objects.delete()
    bucket.delete()


def test_a_whole_build_lies_in_the_bucket_and_a_second_finds_it_done(
    network, films, overrides, calm, captioner
):
    child = start_build(URL, films, overrides)
    said, heard = child.communicate(timeout=200)
    assert child.returncode == 0, heard
    assert files_of(Store(URL)) == calm
    assert verify_dataset(open_dataset(Store(URL), "films")).ok
    asked = captioner.asked.copy()
    again = start_build(URL, films, overrides)
    assert json.loads(again.communicate(timeout=200)[0]) == json.loads(said)
    assert captioner.asked == asked


def test_a_few_cut_uploads_and_a_throttle_are_waited_out(network, films, overrides, calm):
    network.cut(3, after=20_000)
    network.slow_down(6)
    child = start_build(URL, films, overrides)
    heard = child.communicate(timeout=250)[1]
    assert child.returncode == 0, heard
    assert (network.cuts, network.refusals) == (3, 6)
    assert files_of(Store(URL)) == calm


def test_a_network_that_stays_cut_leaves_no_half_thing_and_the_next_run_completes(
    network, films, overrides, calm
):
    network.cut(10**6, after=20_000)
    child = start_build(URL, films, overrides)
    heard = child.communicate(timeout=250)[1]
    assert child.returncode == 1, heard
    assert "Traceback" not in heard
    assert f"{URL}/stages/" in heard
    assert "cannot be reached" in heard
    network.mend()
    store = Store(URL)
    assert not store.exists("datasets/films/LATEST")
    assert store.listdir("datasets") == []
    child = start_build(URL, films, overrides)
    heard = child.communicate(timeout=250)[1]
    assert child.returncode == 0, heard
    assert files_of(store) == calm


def test_a_film_that_came_into_a_watched_bucket_is_all_that_is_processed(
    network, films, overrides, calm, captioner
):
    bucket, store = boto3.resource("s3").Bucket("bucket"), Store(URL)
    for given in (films[:2], films[2:]):
        for film in given:
            bucket.upload_file(str(film), f"watched/{film.name}")
        known, before = set(store.listdir("stages/ingest")), captioner.asked.copy()
        child = start_build(URL, ["s3://bucket/watched"], overrides)
        heard = child.communicate(timeout=200)[1]
        assert child.returncode == 0, heard
    (new,) = set(store.listdir("stages/ingest")) - known
    assert films[2].name in store.read(f"stages/ingest/{new}/manifest.json").decode()
    assert before, "the first films were captioned"
    assert all(captioner.asked[question] == times for question, times in before.items())
    assert files_of(store) == calm


def test_what_another_machine_finished_is_seen_at_once(network):
    here, there = Store(URL), Store(URL)
    there.fs = type(there.fs)(skip_instance_cache=True)
    assert here.listdir("stages/x") == []
    assert not here.exists("stages/x/1/manifest.json")
    with there.atomic_folder("stages/x/1") as folder:
        (folder / "data.bin").write_bytes(b"x" * 100)
        (folder / "manifest.json").write_text("{}")
    assert here.exists("stages/x/1/manifest.json")
    assert here.listdir("stages/x/1") == ["data.bin", "manifest.json"]


def test_two_machines_that_build_one_name_at_once_leave_two_whole_versions(
    network, films, overrides, calm, tmp_path
):
    """No lock is between machines: what they share is made twice, and equal."""
    machines = [
        start_build(
            URL, given, overrides, env={**os.environ, "ICLORA_WORK": str(tmp_path / f"machine-{n}")}
        )
        for n, given in enumerate((films, films[:2]))
    ]
    heard = [machine.communicate(timeout=500) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], heard
    store = Store(URL)
    versions = {json.loads(said)["version"] for said, _ in heard}
    assert {*store.listdir("datasets/films")} == {"LATEST", *versions}
    assert len(versions) == 2
    assert store.read("datasets/films/LATEST").decode().strip() in versions
    for version in versions:
        assert verify_dataset(open_dataset(store, f"films@{version}")).ok
    large = json.loads(heard[0][0])["version"]
    assert {file: store.read(f"datasets/films/{large}/{file}") for file in calm} == calm


def test_a_bucket_that_is_not_there_and_a_missing_key_are_one_sentence(
    network, films, overrides, monkeypatch
):
    child = start_build("s3://nowhere/at-all", films, overrides)
    heard = child.communicate(timeout=100)[1]
    assert (child.returncode, "Traceback" in heard) == (2, False), heard
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    child = start_build(URL, films, overrides)
    heard = child.communicate(timeout=100)[1]
    assert (child.returncode, "Traceback" in heard) == (2, False), heard
    assert "credentials" in heard
