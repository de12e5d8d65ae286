"""Sweeping removes what no dataset was made of, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

from iclora.shards import open_dataset
from iclora.shards.sweep import sweep
from iclora.shards.verify import verify_dataset
from iclora.store import Store


def stages_of(store) -> set[str]:
    return {
        f"{kind}/{one}" for kind in store.names("stages") for one in store.names(f"stages/{kind}")
    }


def test_what_a_dataset_needs_stays(make_build):
    build = make_build()
    build.publish()
    before = stages_of(build.store)
    assert sweep(build.store).places == ()
    assert stages_of(build.store) == before


def test_what_nothing_refers_to_goes(make_build):
    small = make_build((3, 2))
    small.publish()
    needed = stages_of(small.store)
    large = make_build((3, 2, 2))
    ref = large.publish("more")
    shutil.rmtree(Path(ref.url))
    store = large.store
    (store.work / "stages-ingest-0123.abcdefgh").mkdir(parents=True)
    store.write("cache/captions/one.json", b"paid for")
    store.write("cache/latents/aa/one.safetensors", b"made again")
    leftover = Path(store.path("cache/captions/.two.json.99.abc.tmp"))
    leftover.write_bytes(b"half")

    swept = sweep(store, dry_run=True)
    assert len(swept.places) == len(stages_of(store) - needed) + 2
    assert swept.size > 0
    assert leftover.exists()

    assert sweep(store) == swept
    assert stages_of(store) == needed
    assert not leftover.exists()
    assert store.exists("cache/latents/aa/one.safetensors")
    assert verify_dataset(open_dataset(store, "films")).ok

    sweep(store, caches=True)
    assert store.exists("cache/captions/one.json")
    assert not store.exists("cache/latents")


def test_copies_from_an_object_store_go(tmp_path, monkeypatch):
    monkeypatch.setenv("ICLORA_WORK", str(tmp_path))
    store = Store("memory://swept")
    store.write("datasets/mine/1/train-000000.tar", b"x" * 100)
    copy = store.local("datasets/mine/1/train-000000.tar")
    assert sweep(store, dry_run=True) == ((str(tmp_path / "copies"),), 100)
    assert sweep(store).size == 100
    assert not copy.exists()
    assert store.local("datasets/mine/1/train-000000.tar").read_bytes() == b"x" * 100
