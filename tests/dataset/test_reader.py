"""Datasets are found by the names people use."""

from __future__ import annotations

from pathlib import Path

import pytest

from iclora.dataset import open_dataset
from iclora.errors import BadInput
from iclora.store import Store


def test_names_paths_and_urls(published):
    store, ref = published
    elsewhere = Store(str(Path(store.root).parent / "empty"))
    for there, name in (
        (store, "films"),
        (store, f"films@{ref.version}"),
        (elsewhere, ref.url),
        (elsewhere, f"file://{ref.url}"),
        (elsewhere, str(Path(ref.url).parent)),
    ):
        dataset = open_dataset(there, name)
        assert dataset.manifest.version == ref.version
        assert len(list(dataset.samples("val"))) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("movies", "no dataset 'movies' in .*; there is films"),
        ("films@0123", "has no version 0123; it has "),
        ("./nowhere", "is not a dataset: it has no manifest.json"),
    ],
)
def test_what_is_not_there(published, name: str, message: str):
    with pytest.raises(BadInput, match=message):
        open_dataset(published[0], name)


def test_a_store_in_memory(published):
    _, ref = published
    there = Store("memory://somewhere")
    for path in Path(ref.url).iterdir():
        there.write(f"datasets/films/{ref.version}/{path.name}", path.read_bytes())
    there.write("datasets/films/LATEST", ref.version.encode())
    dataset = open_dataset(there, "films")
    assert len(list(dataset.samples())) == 7
    assert dataset.local("index.json").read_bytes() == (Path(ref.url) / "index.json").read_bytes()


def test_manifests_that_are_not_ours(published):
    store, ref = published
    path = Path(ref.url) / "manifest.json"
    good = path.read_text()
    path.write_text(good.replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(BadInput, match="written by a newer iclora"):
        open_dataset(store, "films")
    path.write_text('{"name": "x"}')
    with pytest.raises(BadInput, match="is not a dataset's manifest"):
        open_dataset(store, "films")


def test_a_damaged_shard_says_what_to_do(published):
    store, ref = published
    path = Path(ref.url) / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(BadInput, match=r"is damaged .*iclora verify"):
        list(open_dataset(store, "films").samples())
