"""Shards obey the contract of those who will read them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from iclora.dataset.dataset_card import features
from iclora.dataset.reader import read_samples
from iclora.dataset.shard_writer import Sample, record_bytes, wids_index, write_shards
from schemas.sample import CaptionRecord, PanelRecord, SampleRecord
from schemas.sharding import ShardParams

TEXT = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" "), max_size=40
).map(str.strip)
BOXES = st.lists(st.tuples(*[st.integers(0, 4000)] * 4), max_size=3).map(tuple)


def picture(colour: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 64), (colour, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    keys = draw(
        st.lists(
            st.from_regex(r"[a-z0-9][a-z0-9_-]{0,39}", fullmatch=True), min_size=1, unique=True
        )
    )
    floats = st.floats(-1e6, 1e6).map(lambda value: round(value, 4))
    made = []
    for key in sorted(keys[:6]):
        image = picture(draw(st.integers(0, 255)))
        digest = hashlib.sha256(image).hexdigest()
        panels = tuple(
            PanelRecord(
                marker=f"[SCENE-{number}]",
                box=(0, 0, 32, 32),
                caption=draw(TEXT),
                source=draw(TEXT),
                source_box=(0, 0, 1, 1),
                shot=draw(st.integers(-1, 99)),
                time=draw(floats),
                sha256=digest,
            )
            for number in (1, 2)
        )
        record = SampleRecord(
            key=key,
            layout="2x1",
            width=32,
            height=64,
            panels=panels,
            masks=draw(BOXES),
            image_sha256=digest,
            caption=CaptionRecord(
                prefix="",
                summary=draw(TEXT),
                roles=tuple(draw(st.lists(TEXT, max_size=2))),
                captioner="someone",
                image_sha256=digest,
            ),
            scores={"a": draw(floats), "b": float(draw(st.integers(-1, 5)))},
            licence=draw(TEXT),
            split="train",
        )
        made.append(Sample(record, draw(TEXT) or "x", image, "jpg"))
    return made


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(samples(), st.integers(1, 3))
def test_every_reader_reads_what_was_written(tmp_path: Path, made: list[Sample], most: int):
    import datasets
    import yaml
    from webdataset.compat import WebDataset

    folder = tmp_path / hashlib.sha256(repr(made).encode()).hexdigest()[:12] / str(most)
    folder.mkdir(parents=True, exist_ok=True)
    shards = write_shards(made, folder, "train", ShardParams(samples_per_shard=most))
    paths = [folder / shard.file for shard in shards]

    ours = [sample for path in paths for sample in read_samples(path.open("rb"))]
    assert ours == made

    theirs = list(WebDataset([str(path) for path in paths], shardshuffle=False))
    assert [one["__key__"] for one in theirs] == [one.record.key for one in made]
    assert [one["jpg"] for one in theirs] == [one.image for one in made]
    assert [one["txt"].decode() for one in theirs] == [one.text for one in made]
    assert [json.loads(one["json"]) for one in theirs] == [one.record.to_json() for one in made]

    data_files = [{"split": "train", "path": "train-*.tar"}]
    card = {
        "configs": [{"config_name": "default", "data_files": data_files}],
        "dataset_info": {"features": features("jpg", ["a", "b"])},
    }
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n", encoding="utf-8")
    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(folder / "cache"))
    assert [row["txt"] for row in rows] == [one.text for one in made]
    assert [row["json"] for row in rows] == [one.record.to_json() for one in made]
    assert all(row["jpg"].size == (32, 64) for row in rows)


def sample(key: str, size: int = 700) -> Sample:
    image = key.encode().ljust(size, b".")
    digest = hashlib.sha256(image).hexdigest()
    caption = CaptionRecord(prefix="", summary="", roles=(), captioner="", image_sha256=digest)
    record = SampleRecord(
        key=key,
        layout="1x1",
        width=1,
        height=1,
        panels=(),
        masks=(),
        image_sha256=digest,
        caption=caption,
        scores={"z": 1.0, "a": 2.0},
        licence="",
        split="train",
    )
    return Sample(record, "a line", image, "jpg")


def test_no_sample_no_shard(tmp_path: Path):
    assert write_shards([], tmp_path, "val", ShardParams()) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_shard_is_full_by_count(tmp_path: Path):
    made = [sample(f"k{number}") for number in range(5)]
    shards = write_shards(made, tmp_path, "train", ShardParams(samples_per_shard=2))
    assert [(s.file, s.samples) for s in shards] == [
        ("train-000000.tar", 2),
        ("train-000001.tar", 2),
        ("train-000002.tar", 1),
    ]


# A member of 700 bytes takes 512 + 1024, the json 512 + 512, the text 512 + 512.
@pytest.mark.parametrize(("most", "counts"), [(2 * 3584, [2, 1]), (2 * 3584 - 1, [1, 1, 1])])
def test_a_shard_is_full_by_bytes(tmp_path: Path, most: int, counts: list[int]):
    made = [sample(f"k{number}") for number in range(3)]
    shards = write_shards(made, tmp_path, "train", ShardParams(bytes_per_shard=most))
    assert [shard.samples for shard in shards] == counts


def test_entries_say_what_is_on_disk(tmp_path: Path):
    (shard,) = write_shards([sample("k")], tmp_path, "train", ShardParams())
    data = (tmp_path / shard.file).read_bytes()
    assert shard.size == len(data) == 10240
    assert shard.sha256 == hashlib.sha256(data).hexdigest()
    assert shard.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert wids_index([shard])["shardlist"] == [
        {"url": shard.file, "md5sum": shard.md5, "nsamples": 1, "filesize": 10240}
    ]


def test_the_bytes_of_a_shard_do_not_change(tmp_path: Path):
    """Versions are named by these digests, so another writer must give the same bytes."""
    made = [sample("a"), sample("b" * 80, 1000), sample("c", 512)]
    (shard,) = write_shards(made, tmp_path, "train", ShardParams())
    assert shard.sha256 == "79cf5b71e54cc8cacdea1342da821b18da3656620a69e0f4961b72e74b601f6a"


def test_headers_are_ustar_without_times_and_owners(tmp_path: Path):
    (shard,) = write_shards([sample("k")], tmp_path, "train", ShardParams())
    assert (tmp_path / shard.file).read_bytes()[257:265] == b"ustar\x0000"
    with tarfile.open(tmp_path / shard.file) as tar:
        members = tar.getmembers()
    assert [info.name for info in members] == ["k.jpg", "k.json", "k.txt"]
    for info in members:
        assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
        assert info.mode == 0o644


def test_floats_stay_floats_and_scores_are_sorted():
    written = record_bytes(sample("k").record)
    assert b'"scores":{"a":2.0,"z":1.0}' in written
    assert b"null" not in written


def test_keys_out_of_order_are_our_own_bug(tmp_path: Path):
    for key in ("a", "b"):
        with pytest.raises(AssertionError, match="out of order or twice"):
            write_shards([sample("b"), sample(key)], tmp_path, "train", ShardParams())
    assert not list(tmp_path.glob("*.tar")), "a shard that broke is not left behind"


@pytest.mark.parametrize("key", ["__hidden", "_a", "-a", "A", "a.b", "a b", ""])
def test_a_key_that_some_reader_would_drop_is_none(key: str):
    with pytest.raises(ValueError, match="key"):
        sample(key)
