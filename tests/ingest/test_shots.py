"""Cuts: PySceneDetect's, frame for frame, whatever the time stamps are like."""

from __future__ import annotations

import json
from types import SimpleNamespace

import av
import numpy as np
import pytest
import scenedetect

from iclora.errors import BadInput, MissingModel
from iclora.ingest import find_cuts
from iclora.ingest.shots import prefetch_frames
from schemas.ingest import ShotParams

USUAL = ShotParams()


def theirs(path, params, backend):
    detector = {
        "adaptive": lambda: scenedetect.AdaptiveDetector(
            params.threshold or 3.5, min_scene_len=params.min_seconds, window_width=params.window
        ),
        "content": lambda: scenedetect.ContentDetector(
            params.threshold or 27.0, min_scene_len=params.min_seconds
        ),
        "histogram": lambda: scenedetect.HistogramDetector(
            params.threshold or 0.2, min_scene_len=params.min_seconds
        ),
    }[params.detector]()
    return [
        scene[0].frame_num for scene in scenedetect.detect(str(path), detector, backend=backend)
    ][1:]


@pytest.mark.parametrize(
    ("film", "backend"), [("big-buck-bunny-30s.mp4", "opencv"), ("sintel-26s.mp4", "pyav")]
)
def test_real_films_are_cut_where_pyscenedetect_cuts_them(footage, film, backend):
    ours = find_cuts(footage / film, USUAL)
    assert list(ours.cuts) == theirs(footage / film, USUAL, backend)
    assert len(ours.cuts) >= 3


@pytest.mark.parametrize("detector", ["content", "histogram"])
def test_the_other_detectors_agree_too(film, detector):
    params = ShotParams(detector=detector)
    ours = find_cuts(film, params)
    assert list(ours.cuts) == theirs(film, params, "pyav")
    assert len(ours.cuts) >= 5


def test_the_cuts_of_a_rendered_film_are_its_script(film):
    truth = json.loads(film.with_suffix(".truth.json").read_text())
    found = find_cuts(film, USUAL)
    assert found.frames == truth["frames"]
    assert found.fps == truth["fps"]
    hits = sum(any(abs(cut - other) <= 1 for other in found.cuts) for cut in truth["cuts"])
    assert hits / len(truth["cuts"]) >= 0.9


def test_cuts_come_with_their_seconds(write_film, shots):
    found = find_cuts(write_film(shots(3)), USUAL)
    assert found.cuts == (20, 40)
    assert found.seconds == (pytest.approx(20 / 24, abs=1e-3), pytest.approx(40 / 24, abs=1e-3))
    assert (found.fps, found.frames) == (24.0, 60)


def test_a_film_that_starts_late_has_the_same_cuts(write_film, shots):
    stamps = [7000 + number * 40 for number in range(60)]
    found = find_cuts(write_film(shots(3), "late.mkv", rate=25, stamps=stamps), USUAL)
    assert found.cuts == (20, 40)
    assert found.seconds[0] == pytest.approx(0.8, abs=2e-3)


def test_unevenly_spaced_frames_are_counted_not_computed(write_film, shots):
    stamps = [number * 40 if number < 30 else 1200 + (number - 30) * 90 for number in range(60)]
    found = find_cuts(write_film(shots(3), "vfr.mkv", rate=25, stamps=stamps), USUAL)
    assert found.cuts == (20, 40)
    assert found.seconds[1] == pytest.approx(2.1, abs=2e-3)


def test_a_stream_without_time_stamps_is_cut(write_film, shots):
    found = find_cuts(write_film(shots(3), "raw.h264"), USUAL)
    assert found.cuts == (20, 40)


def test_a_shot_shorter_than_the_least_is_joined(write_film, shots):
    film = write_film(shots(1, 20) + shots(2, 10)[10:] + shots(3, 30)[60:])
    assert find_cuts(film, USUAL).cuts == (20,)
    assert find_cuts(film, ShotParams(min_seconds=0.3)).cuts == (20, 30)


def test_transnet_without_its_file_says_what_is_missing(write_film, shots):
    with pytest.raises(MissingModel, match="model_file"):
        find_cuts(write_film(shots(2)), ShotParams(detector="transnet"))


def test_what_is_no_film_is_a_user_error(tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_text("not a film\n" * 100)
    with pytest.raises(BadInput, match="notes.mp4"):
        find_cuts(path, USUAL)


@pytest.mark.parametrize(
    ("size", "ahead"),
    [
        ((0, 0), 4),
        ((1920, 1080), 4),
        ((2048, 2730), 4),
        ((2048, 2731), 3),
        ((4096, 5461), 1),
        ((9000, 9000), 1),
    ],
)
def test_few_large_frames_are_decoded_ahead(size, ahead):
    """64 MiB of pixels at most, but always one frame."""
    made: list[int] = []

    def frames():
        while True:
            made.append(len(made))
            yield av.VideoFrame.from_ndarray(np.zeros((48, 32), np.uint8), "yuv420p")

    stream = prefetch_frames(SimpleNamespace(size=size, frames=frames))
    next(stream)
    stream.close()  # waits for what was begun
    assert len(made) == ahead + 1
