"""Sweeping removes what no dataset was made of, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

from iclora.dataset import open_dataset
from iclora.dataset.gc import collect_garbage
from iclora.dataset.verify import verify_dataset
from iclora.store import Store


def stages_of(store) -> set[str]:
    return {
        f"{kind}/{one}"
        for kind in store.listdir("stages")
        for one in store.listdir(f"stages/{kind}")
    }


def test_what_a_dataset_needs_stays(make_build):
    build = make_build()
    build.publish()
    before = stages_of(build.store)
    assert collect_garbage(build.store).paths == ()
    assert stages_of(build.store) == before


def test_what_nothing_refers_to_goes(make_build):
    small = make_build((3, 2))
    small.publish()
    needed = stages_of(small.store)
    large = make_build((3, 2, 2))
    ref = large.publish("more")
    shutil.rmtree(Path(ref.url))
    store = large.store
    (store.work_folder / "stages-ingest-0123.abcdefgh").mkdir(parents=True)
    store.write("cache/captions/one.json", b"paid for")
    store.write("cache/latents/aa/one.safetensors", b"made again")
    leftover = Path(store.path("cache/captions/.two.json.99.abc.tmp"))
    leftover.write_bytes(b"half")

    swept = collect_garbage(store, dry_run=True)
    assert len(swept.paths) == len(stages_of(store) - needed) + 2
    assert swept.size > 0
    assert leftover.exists()

    assert collect_garbage(store) == swept
    assert stages_of(store) == needed
    assert not leftover.exists()
    assert store.exists("cache/latents/aa/one.safetensors")
    assert verify_dataset(open_dataset(store, "films")).ok

    collect_garbage(store, caches=True)
    assert store.exists("cache/captions/one.json")
    assert not store.exists("cache/latents")


def test_copies_from_an_object_store_go(tmp_path, monkeypatch):
    monkeypatch.setenv("ICLORA_WORK", str(tmp_path))
    store = Store("memory://swept")
    store.write("datasets/mine/1/train-000000.tar", b"x" * 100)
    copy = store.local_path("datasets/mine/1/train-000000.tar")
    assert collect_garbage(store, dry_run=True) == ((str(tmp_path / "copies"),), 100)
    assert collect_garbage(store).size == 100
    assert not copy.exists()
    assert store.local_path("datasets/mine/1/train-000000.tar").read_bytes() == b"x" * 100
