"""What is given becomes sources: kinds, names, digests, rights."""

from __future__ import annotations

import logging
import shutil
import time
from threading import Barrier, Event

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iclora.errors import BadInput
from iclora.ingest import file_types, ingest_source, resolve_sources
from iclora.ingest.inside import list_files
from iclora.ingest.result import UnreadableInput
from iclora.ingest.sidecar import parse_sidecar
from iclora.ingest.sources import MAX_CONCURRENT
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from schemas.ingest import IngestParams
from schemas.source import OPT_OUTS
from schemas.stage import Ingested

USUAL = IngestParams()


def resolve(*places, params=USUAL, work=None):
    return resolve_sources([str(place) for place in places], params, work)


def test_a_folder_of_films_is_one_source_a_film(tmp_path, write_film, shots):
    write_film(shots(1), "films/a.mp4")
    write_film(shots(2), "films/deep/b.mkv")
    sources, verdicts = resolve(tmp_path / "films")
    assert [(s.kind, s.name.split("@")[0]) for s in sources] == [
        ("film", "a.mp4"),
        ("film", "deep/b.mkv"),
    ]
    assert [v.outcome for v in verdicts] == ["kept", "kept"]
    assert all(s.name.endswith(f"@{s.content}") for s in sources)


def test_a_folder_of_folders_of_pictures_is_one_source(tmp_path, picture):
    for scene in ("kitchen", "street"):
        for number in range(3):
            picture(tmp_path / "stills" / scene / f"{number}.png", hash((scene, number)) % 99)
    sources, _ = resolve(tmp_path / "stills")
    assert [(s.kind, s.name.split("@")[0]) for s in sources] == [("pictures", "stills")]


def test_a_mixed_folder_and_other_places_are_one_build(tmp_path, write_film, shots, picture):
    write_film(shots(1), "mix/film.mp4")
    picture(tmp_path / "mix/a.png", 1)
    picture(tmp_path / "mix/sets/b.png", 2).with_suffix(".txt").write_text("[A] x")
    shutil.make_archive(str(tmp_path / "mix/more"), "zip", tmp_path / "mix/sets")
    alone = picture(tmp_path / "alone.jpg", 3)
    sources, _ = resolve(tmp_path / "mix", alone)
    assert sorted(s.kind for s in sources) == [
        "archive",
        "captioned",
        "film",
        "pictures",
        "pictures",
    ]


def test_the_digest_is_of_the_content_and_not_of_the_place(tmp_path, picture):
    picture(tmp_path / "one/a.png")
    shutil.copytree(tmp_path / "one", tmp_path / "elsewhere/one")
    (here,), _ = resolve(tmp_path / "one")
    (there,), _ = resolve(tmp_path / "elsewhere/one")
    assert here.name == there.name
    picture(tmp_path / "one/b.png", 2)
    assert resolve(tmp_path / "one")[0][0].content != here.content


def test_the_same_film_twice_is_one_source(tmp_path, write_film, shots):
    path = write_film(shots(1), "films/a.mp4")
    shutil.copy(path, tmp_path / "films/b.mp4")
    sources, verdicts = resolve(tmp_path / "films", path)
    assert len(sources) == 1
    assert [v.reason for v in verdicts] == ["", "duplicate_source", "duplicate_source"]
    assert len({v.id for v in verdicts}) == 3


@pytest.mark.parametrize("given_", ["missing", "no/such", "nosuch.mp4"])
def test_a_mistyped_place_is_one_sentence(tmp_path, given_):
    with pytest.raises(BadInput, match=given_):
        resolve(tmp_path / given_)


def test_an_empty_folder_is_one_sentence(tmp_path):
    with pytest.raises(BadInput, match="no film, picture or archive"):
        resolve(tmp_path)


def test_urls_are_copied_once(tmp_path, write_film, shots):
    path = write_film(shots(1), "cloud/a.mp4")
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/films/a.mp4", path.read_bytes())
    memory.pipe_file("/bucket/films/a.mp4.toml", b'licence = "CC-BY-4.0"')
    work = tmp_path / "work"
    (source,), _ = resolve("memory://bucket/films", work=work)
    assert source.rights.licence == "CC-BY-4.0"
    assert (source.kind, source.url) == ("film", "memory://bucket/films/a.mp4")
    (local,), _ = resolve(f"file://{path}")
    assert local.content == source.content
    copies = list(work.rglob("a.mp4"))
    assert len(copies) == 1
    before = copies[0].stat()
    resolve("memory://bucket/films", work=work)
    assert [copy.stat().st_ino for copy in work.rglob("a.mp4")] == [before.st_ino]


def remote(folder, monkeypatch, get_file):
    """The files of a folder as ``memory://bucket/<folder>``, which are fetched by ``get_file``."""
    memory = fsspec.filesystem("memory")
    for file in folder.rglob("*.*"):
        memory.pipe_file(f"/bucket/{folder.name}/{file.relative_to(folder)}", file.read_bytes())
    real = type(memory).get_file

    def get(self, path, target, **options):
        get_file(path)
        return real(self, path, target, **options)

    monkeypatch.setattr(type(memory), "get_file", get)
    return f"memory://bucket/{folder.name}"


def test_remote_sources_are_copied_beside_each_other_and_come_in_order(
    tmp_path, write_film, shots, monkeypatch
):
    for number in range(4):
        write_film(shots(number + 1), f"beside/{number}.mp4")
    meeting = Barrier(2)
    place = remote(tmp_path / "beside", monkeypatch, lambda _: meeting.wait(30))
    sources, _ = resolve(place, work=tmp_path / "work")
    assert sources == tuple(
        source.model_copy(update={"url": source.url.replace(str(tmp_path), "memory://bucket")})
        for source in resolve(tmp_path / "beside")[0]
    )
    assert len(sources) == 4


def test_a_remote_folder_that_is_two_sources_is_copied_once(tmp_path, picture, monkeypatch):
    for number in range(3):
        picture(tmp_path / "both/plain" / f"{number}.png", number)
        picture(tmp_path / "both/told" / f"{number}.png", 9 + number)
        (tmp_path / "both/told" / f"{number}.txt").write_text("a story")
    fetched: list[str] = []
    place = remote(tmp_path / "both", monkeypatch, fetched.append)
    sources, _ = resolve(place, work=tmp_path / "work")
    assert [source.kind for source in sources] == ["pictures", "captioned"]
    assert sorted(fetched) == sorted(set(fetched))
    assert len(fetched) == 9


def test_a_source_that_cannot_be_copied_is_a_verdict_and_the_others_go_on(
    tmp_path, write_film, shots, monkeypatch
):
    for number in range(3):
        write_film(shots(number + 1), f"closed/{number}.mp4")

    def fail_first(path):
        if path.endswith("/0.mp4"):
            raise OSError("the bucket is closed")

    place = remote(tmp_path / "closed", monkeypatch, fail_first)
    sources, verdicts = resolve(place, work=tmp_path / "work")
    assert [source.name.split("@")[0] for source in sources] == ["1.mp4", "2.mp4"]
    assert [v.reason for v in verdicts] == ["unreadable", "", ""]
    assert verdicts[0].detail == f"{place}/0.mp4 cannot be read: the bucket is closed"


def test_no_more_is_copied_after_a_name_that_does_not_exist(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    for number in range(3 * MAX_CONCURRENT):
        (tmp_path / "gone" / f"{number:02d}.mp4").write_bytes(bytes([number]))
    asked: list[str] = []
    first = Event()

    def fail_first(path):
        asked.append(path)
        if path.endswith("/00.mp4"):
            first.set()
            raise FileNotFoundError(path)
        first.wait(30)
        time.sleep(0.05)

    place = remote(tmp_path / "gone", monkeypatch, fail_first)
    named = [f"{place}/{number:02d}.mp4" for number in range(3 * MAX_CONCURRENT)]
    with pytest.raises(BadInput, match=r"00\.mp4 does not exist"):
        resolve(*named, work=tmp_path / "work")
    assert len(asked) < 3 * MAX_CONCURRENT


def test_a_url_that_leads_nowhere_is_one_sentence(tmp_path):
    with pytest.raises(BadInput, match="memory://bucket/nothing.mp4"):
        resolve("memory://bucket/nothing.mp4", work=tmp_path)
    with pytest.raises(BadInput, match="nosuchprotocol"):
        resolve("nosuchprotocol://x/y.mp4", work=tmp_path)


@pytest.mark.parametrize("word", OPT_OUTS)
def test_a_reserved_source_is_refused_unless_overridden(tmp_path, picture, word):
    path = picture(tmp_path / "a.png")
    (tmp_path / "a.png.toml").write_text(f'opt_out = ["{word.upper()}"]')
    sources, (verdict,) = resolve(path)
    assert (sources, verdict.outcome, verdict.reason) == ((), "rejected", "opt_out")
    sources, (verdict,) = resolve(path, params=IngestParams(allow_opt_out=True))
    assert sources[0].rights.opt_out == (word,)


@pytest.mark.parametrize(
    "text",
    ["not toml", 'colour = "red"', "licence = 3", 'opt_out = "maybe"', "opt_out = true", "\xff"],
)
def test_a_sidecar_that_cannot_be_understood_refuses_the_source(tmp_path, picture, text):
    path = picture(tmp_path / "a.png")
    (tmp_path / "a.toml").write_bytes(text.encode("latin-1"))
    sources, (verdict,) = resolve(path)
    assert (sources, verdict.reason) == ((), "bad_sidecar")
    assert "a.toml" in verdict.detail


def test_a_folders_sidecar_counts_for_its_films_unless_they_have_their_own(
    tmp_path, write_film, shots
):
    write_film(shots(1), "films/a.mp4")
    write_film(shots(2), "films/b.mp4")
    (tmp_path / "films.toml").write_text('licence = "CC0"\nurl = "https://x.example"')
    (tmp_path / "films/b.toml").write_text('licence = "CC-BY-4.0"\ntitle = "B"')
    sources, _ = resolve(tmp_path / "films")
    assert [s.rights.licence for s in sources] == ["CC0", "CC-BY-4.0"]
    assert sources[0].rights.url == "https://x.example"


def test_an_unknown_licence_is_warned_about(tmp_path, picture, caplog):
    with caplog.at_level(logging.WARNING, "iclora"):
        resolve(picture(tmp_path / "a.png"))
    assert "licence" in caplog.text


def test_a_sidecar_may_be_silent():
    assert parse_sidecar(b"", "x").licence == "unknown"
    with pytest.raises(UnreadableInput):
        parse_sidecar(b"=", "x")


def test_junk_is_no_source(tmp_path, picture):
    picture(tmp_path / "set/a.png")
    for junk in ("__MACOSX/._a.png", "._a.png", ".DS_Store", "Thumbs.db", ".hidden/b.png"):
        path = tmp_path / "set" / junk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"junk")
    assert list_files(tmp_path / "set").files == ["a.png"]


def test_pictures_and_films_that_are_not_read_have_a_verdict(tmp_path, write_film, shots, picture):
    folder = tmp_path / "mix"
    film = write_film(shots(1), "mix/good.mp4").read_bytes()
    png = picture(folder / "good.png").read_bytes()
    named = {"a.heic": b"x", "b.JXL": b"x", "c.rm": b"x", "d.dng": b"x", "sub/e.rar": b"x"}
    guessed = {
        "photo": b"\xff\xd8\xff\xe0",
        "shot.0001": png,
        "film": film,
        "phone": b"\0\0\0\x18ftypheic",
    }
    silent = "n.txt n.JSON n.toml n.csv n.md n.html n.srt n.wav README photo.xmp .hidden Thumbs.db"
    for name, data in (named | guessed | dict.fromkeys(silent.split(), b"text")).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    sources, verdicts = resolve(folder)
    assert sorted(source.kind for source in sources) == ["film", "pictures"]
    refused = {v.id: (v.outcome, v.reason) for v in verdicts if v.reason}
    assert refused == dict.fromkeys(named | guessed, ("rejected", "unknown_format"))
    details = {v.id: v.detail for v in verdicts}
    assert "convert it to PNG or JPEG" in details["a.heic"]
    assert "convert it to MP4" in details["c.rm"]
    assert details["photo"] == "photo is a JPEG picture with no suffix; rename it to photo.jpg"
    assert "rename it to shot.png" in details["shot.0001"]
    assert "rename it to film.mp4" in details["film"]
    assert "HEIC picture with no suffix; convert it to PNG or JPEG" in details["phone"]


def test_a_folder_of_nothing_that_is_read_says_what_to_do(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    sources, (verdict,) = resolve(tmp_path)
    assert (sources, verdict.reason) == ((), "unknown_format")


def test_natural_order():
    mixed = ["b/1.png", "a10.png", "a2.png", "A1.png", "a02.png", "b/x/1.png", "a.png"]
    assert sorted(mixed, key=file_types.natural_key) == [
        "a.png",
        "A1.png",
        "a02.png",
        "a2.png",
        "a10.png",
        "b/1.png",
        "b/x/1.png",
    ]


@given(st.lists(st.text(min_size=1, max_size=12), max_size=8))
def test_any_names_can_be_ordered(texts):
    once = sorted(texts, key=file_types.natural_key)
    backwards = list(reversed(once))
    assert once == sorted(backwards, key=file_types.natural_key)


def test_a_folder_that_cannot_be_listed_is_a_verdict(tmp_path, monkeypatch):
    import os

    folder = tmp_path / "locked"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner").chmod(0)
    if os.access(folder / "inner", os.R_OK):  # root reads everything
        (folder / "inner").chmod(0o755)
        pytest.skip("this user is root, whom no mode keeps out")
    sources, (verdict,) = resolve(folder)
    assert (sources, verdict.reason) == ((), "unreadable")


def test_a_source_of_a_kind_that_nothing_here_reads_is_a_failed_source(tmp_path, picture, store):
    config = load_config("movie-shots")
    (source,), _ = resolve(picture(tmp_path / "a.png"))
    strange = source.model_copy(update={"kind": "hologram"})
    (verdict,) = result_of(store, ingest_source(store, strange, config), Ingested).verdicts
    assert verdict.outcome == "failed"
    assert "no reader for sources of kind 'hologram'; known are archive, " in verdict.detail


@pytest.mark.parametrize(
    ("settings", "again"),
    [
        (["ingest.max_failed_share=0.9"], False),
        (["ingest.allow_opt_out=true"], False),
        (["layout.panel_width=512"], False),
        (["ingest.watermark=crop"], True),
        (["layout.rows=1", "layout.columns=3"], True),
    ],
)
def test_a_source_is_read_again_only_if_a_setting_can_change_the_result(
    tmp_path, picture, store, settings, again
):
    (source,), _ = resolve(picture(tmp_path / "a.png"))
    refs = [
        ingest_source(store, source, load_config("movie-shots", overrides))
        for overrides in ([], settings)
    ]
    assert (refs[0] != refs[1]) == again
