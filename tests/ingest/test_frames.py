"""Frames held while their shot is decoded: the same pictures as sought ones, and seldom a seek."""

from __future__ import annotations

import av
import numpy as np
import pytest

from iclora.ingest import frames, ingest_source, resolve_sources
from iclora.ingest.frames import FrameBuffer
from iclora.presets import load_config
from iclora.store import Store
from schemas.ingest import IngestParams

WIDTH, HEIGHT = 64, 32
SIZE = WIDTH * HEIGHT * 3 // 2
"""Bytes of a frame of eight bits with quarter-size colour."""


def decoded(number: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.zeros((HEIGHT * 3 // 2, WIDTH), np.uint8), "yuv420p")
    frame.pts = number
    return frame


def kept_of(shots, sharpness, most, *, told_after=0, per_shot=1):
    """What is handed on of shots (their ends) that are told of some frames late."""
    kept: list[int] = []
    params = IngestParams(candidates_per_shot=5, frames_per_shot=per_shot)
    held = FrameBuffer(params, lambda number, _: kept.append(number), most)
    for number in range(len(sharpness)):
        held.add(number, decoded(number))
        for end in shots:
            if end + told_after == number:
                held.flush_shot(end, sharpness[: number + 1])
    held.flush_shot(len(sharpness), sharpness)
    return kept


@pytest.mark.parametrize("told_after", [0, 3])
@pytest.mark.parametrize("per_shot", [1, 2])
def test_what_is_handed_on_is_what_is_picked(told_after, per_shot):
    sharpness = np.random.default_rng(3).uniform(1, 9, 40).tolist()
    shots = [(0, 11), (11, 25), (25, 40)]
    picks = frames.pick_frames(shots, np.array(sharpness), 5, per_shot)
    got = kept_of([11, 25], sharpness, 40 * SIZE, told_after=told_after, per_shot=per_shot)
    assert got == [pick.number for pick in picks]


def test_the_oldest_frame_goes_first_and_only_when_there_is_too_much():
    sharpness = [1.0, 9.0, *[1.0] * 8]  # of ten frames the second one is a candidate
    assert frames.pick_frames([(0, 10)], np.array(sharpness), 5, 1)[0].number == 1
    assert kept_of([], sharpness, 9 * SIZE) == [1]
    assert kept_of([], sharpness, 9 * SIZE - 1) == []


def test_a_cut_that_is_told_twice_or_late_changes_nothing():
    kept: list[int] = []
    held = FrameBuffer(IngestParams(), lambda number, _: kept.append(number), 100 * SIZE)
    sharpness = [float(number) for number in range(20)]
    for number in range(20):
        held.add(number, decoded(number))
    for end in (10, 10, 5, 20):
        held.flush_shot(end, sharpness)
    assert kept == [9, 19]


def stages_of(path, folder):
    config = load_config("movie-shots")
    store = Store(str(folder))
    (source,), _ = resolve_sources([str(path)], config.ingest)
    ref = ingest_source(store, source, config)
    place = folder / "stages" / "ingest" / ref.digest
    return {str(file.relative_to(place)): file.read_bytes() for file in place.rglob("*.*")}


@pytest.mark.parametrize("most", [0, 6 * 256 * 192 * 3 // 2, 1 << 40])
def test_a_film_gives_the_same_bytes_however_much_is_held(film, tmp_path, monkeypatch, most):
    whole = stages_of(film, tmp_path / "usual")
    monkeypatch.setattr("iclora.ingest.film_analysis.BUFFER_BYTES", most)
    assert stages_of(film, tmp_path / "other") == whole
    assert any(name.endswith(".png") for name in whole)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mpg", "mpeg2video"), ("a.avi", "mpeg4"), ("a.ts", "libx264"), ("a.webm", "libvpx-vp9")],
)
def test_whatever_the_codec_both_ways_give_the_same_bytes(
    write_film, texture, tmp_path, monkeypatch, name, codec
):
    """Moving pictures, so that frames are told from the ones before and after them."""
    pictures = [np.roll(texture(n // 30), 2 * n, axis=1) for n in range(90)]
    path = write_film(pictures, name, rate=25, codec=codec)
    whole = stages_of(path, tmp_path / "usual")
    monkeypatch.setattr("iclora.ingest.film_analysis.BUFFER_BYTES", 0)
    assert stages_of(path, tmp_path / "other") == whole
    assert sum(name.endswith(".png") for name in whole) == 3


def test_frames_are_sought_only_where_they_could_not_be_held(film, tmp_path, monkeypatch):
    sought: list[int] = []

    def fetch(path, timeline, numbers, most):
        sought.extend(numbers)
        return frames.decode_frames(path, timeline, numbers, most)

    monkeypatch.setattr("iclora.ingest.readers.film.decode_frames", fetch)
    stages_of(film, tmp_path / "held")
    assert sought == []
    monkeypatch.setattr("iclora.ingest.film_analysis.BUFFER_BYTES", 0)
    stages_of(film, tmp_path / "sought")
    assert len(sought) >= 5


def test_a_detector_that_tells_no_cut_before_the_end_finds_the_same(film, tmp_path, monkeypatch):
    told = stages_of(film, tmp_path / "told")
    end_shot = FrameBuffer.flush_shot

    def only_the_end(self, end, sharpness):
        if end == len(sharpness):
            end_shot(self, end, sharpness)

    monkeypatch.setattr(FrameBuffer, "flush_shot", only_the_end)
    assert stages_of(film, tmp_path / "untold") == told
