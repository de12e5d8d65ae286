"""Hugging Face datasets and WebDataset shards as sources."""

from __future__ import annotations

import io
import json
import tarfile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from iclora.ingest import ingest_source, resolve_sources
from iclora.ingest.readers.huggingface import is_hub_id, split_hub_id
from iclora.ingest.readers.webdataset import expand_shards, sample_key
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from schemas.stage import Ingested


@pytest.fixture
def rows(png):
    """Six pictures in two groups, under a column name of its own; one row is empty."""
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "photo": datasets.Image(),
            "film": datasets.Value("int64"),
        }
    )
    pictures = [{"bytes": png(n), "path": None} for n in range(5)] + [None]
    return datasets.Dataset.from_dict(
        {"text": list("abcdef"), "photo": pictures, "film": [1, 1, 1, 2, 2, 2]}, features=features
    )


@pytest.mark.parametrize("form", ["parquet", "folder of parquet", "saved", "saved splits"])
def test_every_local_form_is_read(tmp_path, rows, ingest, frames_folder, texture, form):
    place = tmp_path / "data"
    if form == "parquet":
        place = tmp_path / "data.parquet"
        rows.to_parquet(str(place))
    elif form == "folder of parquet":
        rows.to_parquet(str(place / "train.parquet"))
    elif form == "saved":
        rows.save_to_disk(str(place))
    else:
        datasets.DatasetDict(train=rows).save_to_disk(str(place))
    found = ingest(place, "ingest.group_column=film")
    assert found.source.kind == "huggingface"
    assert [frame.scene for frame in found.frames] == ["1", "1", "1", "2", "2"]
    assert [v.reason for v in found.verdicts] == [""] * 5 + ["no_picture"]
    stored = np.asarray(Image.open(frames_folder(found) / found.frames[3].file))
    assert np.array_equal(stored, texture(3))


@pytest.fixture
def judge(store):
    """Resolves and ingests a folder: the results by kind, and the verdicts on its sources."""

    def run(folder):
        config = load_config("movie-shots")
        sources, verdicts = resolve_sources([str(folder)], config.ingest, store.work_folder)
        results = {
            source.kind: result_of(store, ingest_source(store, source, config), Ingested)
            for source in sources
        }
        return results, verdicts

    return run


def test_films_and_pictures_beside_a_table_are_read_or_have_a_verdict(
    tmp_path, rows, judge, picture, write_film, shots, png, write_shard
):
    rows.to_parquet(str(tmp_path / "shards/a.parquet"))
    write_film(shots(2), "shards/film.mp4")
    picture(tmp_path / "shards/beside/b.png", 20)
    (tmp_path / "shards/beside/plain").write_bytes(png(21))
    (tmp_path / "shards/README.md").write_text("words")
    (tmp_path / "shards/state.json").write_text("{}")
    write_shard("x-000000.tar", [("c.png", png(22))])
    results, verdicts = judge(tmp_path / "shards")
    assert [v.outcome for v in verdicts] == ["kept"] * 3
    assert {kind: len(result.frames) for kind, result in results.items()} == {
        "film": 2,
        "webdataset": 1,
        "huggingface": 5,
    }
    refused = [v for v in results["huggingface"].verdicts if v.outcome != "kept"]
    assert [v.reason for v in refused] == ["no_picture", "beside_table", "unknown_format"]
    assert refused[1].detail.startswith("beside/b.png lies beside a table")


def test_pictures_beside_a_table_without_pictures_are_read(tmp_path, judge, picture):
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(str(tmp_path / "a/meta.parquet"))
    for number in range(3):
        picture(tmp_path / f"a/{number}.png", number)
    picture(tmp_path / "a/told/4.png", 4).with_suffix(".txt").write_text("a story")
    results, _ = judge(tmp_path / "a")
    found = results["huggingface"]
    assert len(found.frames) == 3
    assert [v.reason for v in found.verdicts][:4] == ["no_image_column", "", "", ""]
    assert len(found.verdicts) == 5


def test_a_stray_state_file_hides_nothing(tmp_path, judge, picture, write_film, shots):
    write_film(shots(2), "a/film.mp4")
    picture(tmp_path / "a/b.png", 20)
    (tmp_path / "a/state.json").write_text("{}")
    results, _ = judge(tmp_path / "a")
    assert {kind: len(r.frames) for kind, r in results.items()} == {"film": 2, "pictures": 1}


@pytest.mark.parametrize("place", ["{}/a[1].parquet", "films [2024]/*.parquet", "a/**.parquet"])
def test_names_of_tables_are_no_patterns(tmp_path, rows, ingest, place):
    path = tmp_path / place
    rows.select(range(2)).to_parquet(str(path.parent / "a1.parquet"))
    rows.select(range(2, 5)).to_parquet(str(path.parent / "tmp"))
    (path.parent / "tmp").rename(path)
    assert len(ingest(path).frames) == 3
    assert [v.outcome for v in ingest(path.parent).verdicts] == ["kept"] * 5


def test_rows_of_several_pictures_are_scenes(tmp_path, png, ingest):
    features = datasets.Features({"shots": datasets.List(datasets.Image())})
    several = [[{"bytes": png(3 * row + n), "path": None} for n in range(3)] for row in range(2)]
    data = datasets.Dataset.from_dict({"shots": several}, features=features)
    data.to_parquet(str(tmp_path / "a.parquet"))
    found = ingest(tmp_path / "a.parquet")
    assert [frame.scene for frame in found.frames] == ["row-0"] * 3 + ["row-1"] * 3


@pytest.mark.parametrize(
    ("override", "reason"),
    [("ingest.group_column=nope", "no_group_column"), ("ingest.image_column=text", "")],
)
def test_columns_that_are_not_there(tmp_path, rows, ingest, override, reason):
    rows.to_parquet(str(tmp_path / "a.parquet"))
    found = ingest(tmp_path / "a.parquet", override)
    assert found.frames == ()
    if reason:
        assert [v.reason for v in found.verdicts] == [reason]
    else:  # texts are no pictures, row by row
        assert {v.reason for v in found.verdicts} == {"no_picture"}


@pytest.mark.parametrize("form", ["cells", "lists", "numbers"])
def test_a_small_table_that_fills_the_memory_is_a_verdict(tmp_path, ingest, form):
    value, count = pa.array([bytes(1 << 20)]), 1000  # 1 GB in some kB
    cells = pa.StructArray.from_arrays(
        [
            pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), value),
            pa.nulls(count, pa.string()),
        ],
        ["bytes", "path"],
    )
    picture: object = datasets.Image()
    columns: dict[str, pa.Array] = {"image": cells}
    if form == "lists":
        picture = datasets.List(picture)
        columns = {"image": pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), cells)}
    elif form == "numbers":
        columns = {"image": pa.nulls(1 << 26, cells.type.field(1).type)}
        picture = datasets.Value("string")
    features = datasets.Features({"image": picture})
    table = pa.table(columns).replace_schema_metadata(features.arrow_schema.metadata)
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, compression="zstd", store_schema=False, row_group_size=1 << 26)
    assert path.stat().st_size < 200_000
    (verdict,) = ingest(path).verdicts
    assert (verdict.outcome, verdict.reason) == ("failed", "table_bomb")
    assert verdict.value > verdict.threshold == 1 << 28


def test_pictures_that_rows_repeat_are_read(tmp_path, png, ingest):
    data = datasets.Dataset.from_dict({"image": [{"bytes": png(1), "path": None}] * 300})
    data.cast_column("image", datasets.Image()).to_parquet(str(tmp_path / "a.parquet"))
    found = ingest(tmp_path / "a.parquet")
    assert (len(found.frames), found.seen) == (1, 300)


def test_a_table_without_pictures_says_so(tmp_path, ingest):
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(str(tmp_path / "a.parquet"))
    (verdict,) = ingest(tmp_path / "a.parquet").verdicts
    assert verdict.reason == "no_image_column"
    assert "text" in verdict.detail


def test_a_broken_table_is_a_failed_source(tmp_path, ingest):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but not really")
    (verdict,) = ingest(tmp_path / "a.parquet").verdicts
    assert (verdict.outcome, verdict.reason) == ("failed", "unreadable_dataset")


def test_hub_ids():
    assert is_hub_id("owner/name")
    assert is_hub_id("hf://datasets/owner/name@v1.0")
    assert not is_hub_id("a/b/c")
    assert not is_hub_id("s3://bucket/x")
    assert split_hub_id("hf://datasets/o/n@abc") == ("o/n", "abc")
    assert split_hub_id("o/n") == ("o/n", None)


@pytest.fixture
def write_shard(tmp_path):
    def write(name, members):
        path = tmp_path / "shards" / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    return write


def test_shards_are_one_source_and_samples_of_several_pictures_are_scenes(
    tmp_path, write_shard, png, ingest
):
    write_shard(
        "x-000000.tar",
        [(f"a.{n}.png", png(n)) for n in range(3)] + [("a.json", b"{}"), ("a.cls", b"1")],
    )
    grouped = json.dumps({"movie": "M"}).encode()
    write_shard(
        "x-000001.tar",
        [("b.png", png(5)), ("b.json", grouped), ("c.png", png(6)), ("c.json", b"not json")],
    )
    found = ingest(tmp_path / "shards", "ingest.group_column=movie")
    assert found.source.kind == "webdataset"
    assert [frame.scene for frame in found.frames] == ["a", "a", "a", "M", ""]
    braces = ingest(f"{tmp_path}/shards/x-{{000000..000001}}.tar", "ingest.group_column=movie")
    assert [f.content for f in braces.frames] == [f.content for f in found.frames]


def test_stitched_samples_of_shards_keep_their_captions(
    tmp_path, write_shard, png, texture, ingest
):
    canvas = np.vstack([texture(n, 160, 96) for n in range(3)])
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, "PNG")
    write_shard("train-000000.tar", [("k.png", buffer.getvalue()), ("k.txt", b"[SCENE-1] x")])
    (given_set,) = ingest(tmp_path / "shards").given
    assert given_set.caption == "[SCENE-1] x"
    assert [frame.crop[1] for frame in given_set.frames] == [0, 96, 192]


def test_a_broken_shard_does_not_stop_the_others(tmp_path, write_shard, png, ingest):
    write_shard("x-000000.tar", [("a.png", png(1))])
    broken = write_shard("x-000001.tar", [("b.png", png(2)), ("c.png", png(3))])
    broken.write_bytes(broken.read_bytes()[:700])
    write_shard("x-000002.tar", [("d.png", png(4)), ("again.png", png(1))])
    write_shard("x-000003.tar", []).write_bytes(b"")
    found = ingest(tmp_path / "shards")
    assert len(found.frames) == 2
    reasons = sorted(v.reason for v in found.verdicts if v.reason)
    assert reasons[0] in ("broken_archive", "broken_member")
    assert "duplicate_picture" in reasons
    assert "empty_file" in reasons
    assert len({v.id for v in found.verdicts}) == found.seen


def test_patterns_and_keys():
    assert expand_shards("a-{000000..000002}.tar") == (
        "a-000000.tar",
        "a-000001.tar",
        "a-000002.tar",
    )
    assert sample_key("d.1/000.seg.png") == "d.1/000"
