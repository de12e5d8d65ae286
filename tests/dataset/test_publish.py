"""A dataset version is whole, deterministic, and named by what is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iclora.dataset import open_dataset
from iclora.dataset.collect import portable
from iclora.dataset.publish import version_of
from iclora.dataset.reader import read_samples
from iclora.dataset.tables import read_rows
from iclora.dataset.verify import verify_dataset
from iclora.errors import BadInput, BuildStopped
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from iclora.store import Store
from schemas.dataset import ReviewLine
from schemas.source import Licence
from schemas.stage import Captioned, Chosen, Stitched
from schemas.verdict import Verdict


def files_of(url: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(url).iterdir())}


def edit_stage(store: Store, ref, kind, **changes) -> None:
    """Rewrites a finished stage's manifest."""
    result = result_of(store, ref, kind).model_copy(update=changes)
    store.write(f"{ref.path}/manifest.json", result.to_text().encode())


def test_what_is_published(make_build):
    build = make_build()
    ref = build.publish()
    dataset = open_dataset(build.store, "films")
    known = dataset.manifest
    samples = list(dataset.samples())
    assert ref == dataset.ref
    assert known.version == version_of(known) == ref.version
    assert (ref.samples, len(samples), len(dataset)) == (7, 7, 7)
    assert known.splits == {"train": 5, "val": 2}
    assert {s.name[:6]: s.split for s in known.sources} == {
        "film 0": "train",
        "film 1": "val",
        "film 2": "train",
    }
    assert known.ledger["sources"].to_json() == {"in": 4, "kept": 3, "rejected": 0, "failed": 1}
    assert known.ledger["quality"].rejected == 3
    assert known.models["clip"] == "miniature/clip@def"
    assert known.models["captioner"] == "miniature/vlm@abc"
    assert known.models["nsfw"] == known.models["heads"] == "not checked"
    assert known.preview, "the miniature captioned films that are not of its world"
    assert sorted(s.record.key for s in samples if s.record.split == "train") == [
        s.record.key for s in samples[:5]
    ]


def test_every_sample_has_every_score(make_build):
    build = make_build()
    build.publish()
    samples = list(open_dataset(build.store, "films").samples())
    assert all(
        sorted(sample.record.scores) == ["adherence", "caption_words", "ends", "sharpness"]
        for sample in samples
    )
    assert {sample.record.scores["ends"] for sample in samples} == {0.5, -1.0}
    assert 1.1235 in {sample.record.scores["adherence"] for sample in samples}


def test_tables(make_build):
    build = make_build()
    ref = build.publish()
    dataset = open_dataset(build.store, "films")
    rows = list(read_rows(Path(ref.url) / "samples.parquet"))
    assert [row["key"] for row in rows] == [s.record.key for s in dataset.samples()]
    for row, sample in zip(rows, dataset.samples(), strict=True):
        assert (row["caption"], row["size"]) == (sample.text, len(sample.image))
        assert row["sha256"] == sample.record.image_sha256
        assert row["panels"][1]["time"] == sample.record.panels[1].time
    rejects = list(read_rows(Path(ref.url) / "rejects.parquet"))
    assert [(row["stage"], row["reason"]) for row in rejects] == [
        ("sources", "not_a_film"),
        *[("quality", "blurred")] * 3,
    ]
    assert (rejects[1]["value"], rejects[1]["threshold"]) == (3.5, 20.0)


def test_a_build_that_lost_nothing_has_an_empty_table(make_build):
    build = make_build((2,))
    rejects = Path(build._replace(refused=[]).publish().url) / "rejects.parquet"
    assert [row["stage"] for row in read_rows(rejects)] == ["quality"]


def test_the_same_decisions_give_the_same_bytes(make_build, tmp_path: Path):
    here, there = make_build(), make_build(into=Store(str(tmp_path / "elsewhere")))
    there = there._replace(sources=there.sources[::-1], stages=there.stages[::-1])
    assert files_of(here.publish().url) == files_of(there.publish().url)


def test_publishing_again_does_nothing(make_build):
    build = make_build()
    ref = build.publish()
    path = Path(ref.url) / "train-000000.tar"
    before = path.stat().st_mtime_ns
    assert build.publish() == ref
    assert path.stat().st_mtime_ns == before
    assert set(build.store.listdir("datasets/films")) == {"LATEST", ref.version}


def test_a_removed_version_is_made_again(make_build):
    import shutil

    build = make_build()
    ref = build.publish()
    before = files_of(ref.url)
    shutil.rmtree(ref.url)
    assert build.publish() == ref
    assert files_of(ref.url) == before


def test_two_names_for_the_same_content_have_one_version(make_build):
    build = make_build()
    assert build.publish("films").version == build.publish("movies").version


def test_one_more_source_changes_only_what_depends_on_it(make_build):
    small, large = make_build((3, 2)), make_build((3, 2, 2))
    small.publish()
    before = {s.record.key: s for s in open_dataset(small.store, "films").samples()}
    first = open_dataset(small.store, "films").manifest
    large.publish()
    after = {s.record.key: s for s in open_dataset(large.store, "films").samples()}
    second = open_dataset(large.store, "films").manifest
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 2
    old = {source.name: source for source in first.sources}
    assert {s.name: s for s in second.sources if s.name in old} == old


def test_latest_names_the_last_build_and_old_versions_stay(make_build):
    first = make_build((3, 2)).publish()
    second = make_build((3, 2, 2)).publish()
    store = make_build((1,)).store
    assert open_dataset(store, "films").manifest.version == second.version
    assert open_dataset(store, f"films@{first.version}").manifest.samples == 5
    make_build((3, 2)).publish()
    assert open_dataset(store, "films").manifest.version == first.version


def test_one_source_has_no_val_and_the_card_says_so(make_build):
    ref = make_build((3,)).publish()
    card = (Path(ref.url) / "README.md").read_text()
    assert not list(Path(ref.url).glob("val-*"))
    assert "There is no val split" in card
    assert "split: val" not in card


def test_split_by_scene_is_flagged(make_build):
    config = load_config("miniature", ["split.by=scene", "split.val_share=0.3"])
    build = make_build((6,), config)
    ref = build.publish()
    known = open_dataset(build.store, "films").manifest
    assert known.splits["val"] > 0
    assert known.sources[0].split == "both"
    assert "Split by scene" in (Path(ref.url) / "README.md").read_text()


def test_training_settings_do_not_make_another_dataset(make_build):
    one = make_build(config=load_config("miniature"))
    other = make_build(config=load_config("miniature", ["train.steps=7"]))
    assert one.publish().version == other.publish().version


def test_nothing_of_this_machine_is_written(make_build, tmp_path: Path):
    model = tmp_path / "models" / "my-vlm"
    config = load_config(
        "miniature",
        {
            "caption.captioner.kind": "server",
            "caption.captioner.url": "http://gpu7.example:8000/v1",
            "caption.captioner.model": str(model),
            "filter.clip": str(model),
        },
    )
    ref = make_build(config=config).publish()
    for name, data in files_of(ref.url).items():
        assert str(tmp_path).encode() not in data, name
        assert b"gpu7" not in data, name
    assert open_dataset(Store(ref.url), ref.url).manifest.config.filter.clip == "my-vlm"
    assert portable("C:\\models\\x") == portable("~/models/x/") == "x"
    assert portable("../models/x") == portable("./x") == "x"
    assert portable("org/name") == "org/name"


def test_film_world_sources_make_no_preview(make_build):
    build = make_build()
    title = Licence(licence="Apache-2.0", title="iclora miniature film world")
    ours = [source.model_copy(update={"rights": title}) for source in build.sources]
    build._replace(sources=ours).publish()
    assert not open_dataset(build.store, "films").manifest.preview
    mixed = [*ours[:2], build.sources[2]]
    build._replace(sources=mixed).publish()
    assert open_dataset(build.store, "films").manifest.preview


def test_a_review_drops_and_edits(make_build):
    build = make_build()
    build.publish()
    first, second, third = list(open_dataset(build.store, "films").samples())[:3]
    edited = second.text.replace("in the snow", "by the sea")
    review = (
        ReviewLine(key=first.record.key, choice="drop", note="out of focus"),
        ReviewLine(key=second.record.key, caption=edited),
        ReviewLine(key=third.record.key, caption=third.text),
        ReviewLine(key="gone", choice="drop"),
    )
    ref = build.publish(review=review)
    now = {s.record.key: s for s in open_dataset(build.store, "films").samples()}
    assert first.record.key not in now
    assert now[second.record.key].text == edited
    assert now[second.record.key].record.caption.captioner == "by hand"
    assert now[third.record.key] == third, "a caption left alone stays whose it is"
    rejects = read_rows(Path(ref.url) / "rejects.parquet")
    (row,) = [row for row in rejects if row["stage"] == "shard"]
    assert (row["id"], row["reason"], row["detail"]) == (
        first.record.key,
        "by_hand",
        "out of focus",
    )
    assert open_dataset(build.store, "films").manifest.ledger["shard"].rejected == 1


def test_a_caption_of_another_picture_is_not_published(make_build):
    build = make_build((3, 2))
    ref = build.stages[0].captioned
    captioned = result_of(build.store, ref, Captioned)
    wrong = captioned.captions[0].model_copy(update={"image_sha256": "0" * 64})
    edit_stage(build.store, ref, Captioned, captions=(wrong, *captioned.captions[1:]))
    published = build.publish()
    assert published.samples == 4
    rejects = list(read_rows(Path(published.url) / "rejects.parquet"))
    assert rejects[-1]["id"] == wrong.key
    assert rejects[-1]["reason"] == "caption_of_another_picture"


def test_a_canvas_that_changed_on_disk_stops_the_build(make_build):
    build = make_build()
    folder = Path(build.store.path(build.stages[1].stitched.path))
    next(folder.glob("*.jpg")).write_bytes(b"rot")
    with pytest.raises(BuildStopped, match="changed on disk: remove"):
        build.publish()
    assert not build.store.exists("datasets")
    assert [p for p in build.store.work_folder.iterdir() if p.name.startswith("dataset")] == []


@pytest.mark.parametrize(
    ("stage", "kind", "message"),
    [
        ("captioned", Captioned, "ledger of stage caption does not add up"),
        ("stitched", Stitched, "ledger of stage stitch does not add up"),
    ],
)
def test_a_ledger_that_does_not_add_up_stops_the_build(make_build, stage, kind, message):
    build = make_build()
    edit_stage(build.store, getattr(build.stages[0], stage), kind, seen=9)
    with pytest.raises(BuildStopped, match=message):
        build.publish()


def test_an_item_with_two_verdicts_stops_the_build(make_build):
    build = make_build()
    ref = build.stages[0].captioned
    verdicts = result_of(build.store, ref, Captioned).verdicts
    edit_stage(build.store, ref, Captioned, verdicts=(*verdicts[:-1], verdicts[0]))
    with pytest.raises(BuildStopped, match="has 2 verdicts"):
        build.publish()


def test_a_set_lost_between_stages_stops_the_build(make_build):
    build = make_build()
    chosen = result_of(build.store, build.chosen, Chosen)
    more = (*chosen.verdicts, Verdict.kept("choose", "lost"))
    edit_stage(build.store, build.chosen, Chosen, seen=8, verdicts=more)
    with pytest.raises(BuildStopped, match="8 went into stage choose, but 7 sets formed"):
        build.publish()


def test_nothing_kept_says_why(make_build):
    build = make_build((2,))
    build.publish()
    keys = [sample.record.key for sample in open_dataset(build.store, "films").samples()]
    drops = tuple(ReviewLine(key=key, choice="drop") for key in keys)
    with pytest.raises(BadInput, match=r"nothing was kept: 2 by_hand \(shard\), 1 "):
        build.publish("nothing", review=drops)
    assert build.store.listdir("datasets") == ["films"]


def test_the_index_and_manifest_are_plain_json(make_build):
    files = files_of(make_build().publish().url)
    index = json.loads(files["index.json"])
    assert index["__kind__"] == "wids-shard-index-v1"
    assert [one["url"] for one in index["shardlist"]] == ["train-000000.tar", "val-000000.tar"]
    assert files["preview.jpg"][:3] == b"\xff\xd8\xff"


def test_samples_come_straight_from_the_tar(make_build):
    ref = make_build().publish()
    with (Path(ref.url) / "val-000000.tar").open("rb") as file:
        assert {sample.record.split for sample in read_samples(file)} == {"val"}


def test_a_kill_between_the_dataset_and_its_record(make_build):
    build = make_build()
    ref = build.publish()
    before = files_of(ref.url)
    store = build.store
    store.fs.rm(store.path("stages/publish"), recursive=True)
    store.fs.rm(store.path("datasets/films/LATEST"))
    with pytest.raises(BadInput, match="has no LATEST: its first build is not finished"):
        open_dataset(store, "films")
    assert build.publish() == ref
    assert files_of(ref.url) == before
    assert open_dataset(store, "films").ref == ref
    assert list(store.work_folder.iterdir()) == []


def test_an_object_store(make_build, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ICLORA_WORK", str(tmp_path / "work"))
    there = Store(f"memory://{tmp_path.name}")
    ref = make_build(into=there).publish()
    assert ref.url == f"memory://{tmp_path.name}/datasets/films/{ref.version}"
    dataset = open_dataset(there, "films")
    assert verify_dataset(dataset).ok
    here = files_of(make_build().publish().url)
    assert {name: there.read(dataset.path(name)) for name in here} == here
    there.write(dataset.path("preview.jpg"), b"other")
    assert not verify_dataset(dataset).ok
