"""A dataset version is whole, deterministic, and named by what is in it."""

from __future__ import annotations

from iclora.shards import open_dataset


def test_publish_and_open(make_build):
    build = make_build()
    ref = build.publish()
    dataset = open_dataset(build.store, "films")
    samples = list(dataset.samples())
    assert ref.samples == len(samples) == 7
    assert dataset.ref == ref
    assert dataset.manifest.ledger["sources"].failed == 1
    assert dataset.manifest.ledger["quality"].rejected == 3
