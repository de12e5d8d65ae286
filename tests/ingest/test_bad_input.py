"""Bad sources: each gets a verdict, none stops the others."""

from __future__ import annotations

import av
import numpy as np
import pytest

from iclora.ingest import ingest_source, resolve_sources
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from schemas.stage import Ingested


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda data: b"", "empty_file"),
        (lambda data: b"just text\n" * 500, "not_a_film"),
        (lambda data: data[: len(data) // 2], "not_a_film"),  # the index was at the end
        (lambda data: data[:64], "not_a_film"),
        (lambda data: b"ffconcat version 1.0\nfile film.mp4\n", "not_a_film"),
        (lambda data: b"#EXTM3U\n#EXTINF:9,\nfilm.mp4\n#EXT-X-ENDLIST\n", "not_a_film"),
    ],
    ids=["zero bytes", "text", "truncated", "header only", "concat list", "playlist"],
)
def test_what_is_no_film_is_a_failed_source(tmp_path, write_film, shots, ingest, make, reason):
    data = write_film(shots(1)).read_bytes()
    bad = tmp_path / "bad" / "bad.mp4"
    bad.parent.mkdir()
    (bad.parent / "film.mp4.part").write_bytes(data)
    bad.write_bytes(make(data))
    found = ingest(bad)
    (verdict,) = found.verdicts
    assert (verdict.outcome, verdict.reason) == ("failed", reason)
    assert "bad.mp4" in verdict.detail
    assert str(tmp_path) not in found.to_text()
    assert found.frames == ()


def without_size(film):
    """An MP4 whose headers say that its frames are of 0 x 0 pixels and do not say otherwise."""
    data = bytearray(film.read_bytes())
    entry = data.index(b"avc1", data.index(b"stsd"))
    data[entry + 28 : entry + 32] = bytes(4)  # width and height (ISO/IEC 14496-12, 12.1.3)
    sets = data.index(b"avcC", entry)
    data[sets + 4 : sets + 36] = bytes(32)  # the parameter sets
    return bytes(data)


def test_a_film_of_no_size_is_a_failed_source(write_film, shots, ingest):
    film = write_film(shots(2))
    film.write_bytes(without_size(film))
    with av.open(str(film)) as opened:
        assert (opened.streams.video[0].width, opened.streams.video[0].height) == (0, 0)
    (verdict,) = ingest(film).verdicts
    assert (verdict.outcome, verdict.reason) == ("failed", "no_frames")


def test_a_film_with_a_title_in_an_old_encoding_is_read(write_film, shots, ingest):
    film = write_film(shots(2), "old.mkv", options={"title": "x"})
    data = film.read_bytes()
    assert b"Lavf" in data
    film.write_bytes(data.replace(b"Lavf", b"L\xe9vf"))  # the tags of the muxer, in Latin-1
    assert len(ingest(film).frames) == 2


def test_a_film_that_nothing_here_decodes_is_a_failed_source(write_film, shots, ingest):
    film = write_film(shots(2))
    film.write_bytes(film.read_bytes().replace(b"avc1", b"zzzz"))
    (verdict,) = ingest(film).verdicts
    assert (verdict.outcome, verdict.reason) == ("failed", "no_decoder")


def test_a_film_that_breaks_off_gives_what_it_has(write_film, shots, ingest):
    film = write_film(shots(6), "film.mkv")
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    found = ingest(film)
    assert 1 <= len(found.frames) < 6
    assert found.verdicts[-1].reason == "truncated"
    assert found.verdicts[-1].value < found.verdicts[-1].threshold
    assert found.seen == len(found.verdicts)


def test_a_film_with_rubbish_in_it_goes_on(write_film, shots, ingest):
    film = write_film(shots(6), "film.ts")
    data = bytearray(film.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    film.write_bytes(bytes(data))
    assert len(ingest(film).frames) >= 4


def test_a_film_without_cuts_is_one_shot(write_film, shots, ingest):
    found = ingest(write_film(shots(1, 50)))
    assert (len(found.frames), found.seen) == (1, 1)


def test_a_film_of_one_frame_is_one_shot(write_film, shots, ingest):
    found = ingest(write_film(shots(1, 1)))
    assert (len(found.frames), found.frames[0].time, found.frames[0].shot) == (1, 0.0, 0)


def test_a_black_film_has_no_bars(write_film, ingest):
    found = ingest(write_film([np.zeros((96, 160, 3), np.uint8)] * 30))
    assert found.frames[0].crop == (0, 0, 160, 96)


def test_a_film_with_too_large_frames_is_refused_before_it_is_decoded(write_film, shots, ingest):
    film = write_film(shots(1))
    (verdict,) = ingest(film, f"ingest.max_pixels={160 * 96 - 1}").verdicts
    assert (verdict.reason, verdict.value) == ("too_many_pixels", 160.0 * 96)
    assert ingest(film, f"ingest.max_pixels={160 * 96}").verdicts[0].outcome == "kept"


def test_a_sound_file_has_no_video(tmp_path, ingest):
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert ingest(path).verdicts[0].reason == "no_video"


def test_a_source_that_cannot_be_opened_is_a_failed_source(store, write_film, shots):
    film = write_film(shots(1))
    config = load_config("movie-shots")
    (source,), _ = resolve_sources([str(film)], config.ingest)
    film.unlink()
    film.mkdir()  # what root sees of a file it may not read: opening it fails
    found = result_of(store, ingest_source(store, source, config), Ingested)
    assert [v.reason for v in found.verdicts] == ["unreadable"]
    film.rmdir()
    write_film(shots(1))  # it is back: read after all
    found = result_of(store, ingest_source(store, source, config), Ingested)
    assert [v.outcome for v in found.verdicts] == ["kept"]


def test_one_bad_source_leaves_the_others(tmp_path, write_film, shots, store):
    good = write_film(shots(2), "all/a good. film 🎬.mp4")
    (good.parent / "zero.mp4").write_bytes(b"")
    (good.parent / "text.mp4").write_text("text")
    (good.parent / "bad.zip").write_bytes(b"no zip")
    config = load_config("movie-shots")
    sources, verdicts = resolve_sources([str(good.parent)], config.ingest, store.work_folder)
    assert [v.outcome for v in verdicts] == ["kept"] * 4
    reasons = {}
    for source in sources:
        found = result_of(store, ingest_source(store, source, config), Ingested)
        reasons[source.name.split("@")[0]] = [v.reason for v in found.verdicts]
    assert reasons == {
        "a good. film 🎬.mp4": ["", ""],
        "bad.zip": ["not_an_archive"],
        "text.mp4": ["not_a_film"],
        "zero.mp4": ["empty_file"],
    }
    assert not list(store.work_folder.iterdir())  # nothing half done is left
