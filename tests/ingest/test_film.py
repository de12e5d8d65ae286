"""Films: shots become sharp, upright frames with square pixels."""

from __future__ import annotations

import json
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from iclora.ingest.film_decoder import FrameOrientation, upright, upright_box
from iclora.ingest.frames import pick_frames, sharpness_of, well_spaced


@pytest.fixture(params=["held", "sought"])
def either_way(request, monkeypatch):
    """Frames are taken while the film is decoded, and afterwards by seeking."""
    if request.param == "sought":
        monkeypatch.setattr("iclora.ingest.film_analysis.BUFFER_BYTES", 0)


def closeness(path, picture):
    """Mean absolute difference between a stored frame and what was encoded."""
    stored = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert stored.shape == picture.shape
    return np.abs(stored - picture).mean()


@pytest.mark.usefixtures("either_way")
def test_each_shot_gives_one_frame_with_its_provenance(
    ingest, write_film, shots, texture, frames_folder
):
    found = ingest(write_film(shots(3)))
    assert [frame.shot for frame in found.frames] == [0, 1, 2]
    assert found.seen == len(found.verdicts) == 3
    assert {verdict.outcome for verdict in found.verdicts} == {"kept"}
    for frame in found.frames:
        assert 20 / 24 * frame.shot <= frame.time < 20 / 24 * (frame.shot + 1)
        assert closeness(frames_folder(found) / frame.file, texture(frame.shot)) < 6
        assert frame.id.startswith(f"{found.source.content}-{frame.shot:05d}-")


@pytest.mark.usefixtures("either_way")
def test_the_sharpest_candidate_is_kept_and_not_the_middle_one(ingest, write_film, texture):
    sharp = texture(1)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 4)
    pictures = [blurred] * 10 + [sharp] * 4 + [blurred] * 40
    found = ingest(write_film(pictures), "ingest.candidates_per_shot=8")
    assert len(found.frames) == 1
    assert 9 <= round(found.frames[0].time * 24) < 15


@pytest.mark.usefixtures("either_way")
def test_several_frames_a_shot_come_from_its_parts(ingest, write_film, shots):
    found = ingest(write_film(shots(2, 30)), "ingest.frames_per_shot=3")
    assert [frame.shot for frame in found.frames] == [0, 0, 0, 1, 1, 1]
    assert len({frame.id for frame in found.frames}) == 6
    assert found.seen == 2


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_turned_film_is_stored_upright(ingest, write_film, texture, frames_folder, rotation):
    upright_picture = texture(5, 96, 160) if rotation % 180 else texture(5)
    # The camera was turned: the file holds the picture turned clockwise by what it says.
    coded = np.rot90(upright_picture, -rotation // 90).copy()
    found = ingest(write_film([coded] * 20, rotation=rotation))
    frame = found.frames[0]
    assert (frame.height, frame.width) == upright_picture.shape[:2]
    assert frame.crop == (0, 0, frame.width, frame.height)
    assert closeness(frames_folder(found) / frame.file, upright_picture) < 6


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(2), (320, 96)), (Fraction(1, 2), (160, 192)), (None, (160, 96))]
)
def test_pixels_become_square_and_none_are_lost(ingest, write_film, shots, aspect, size):
    found = ingest(write_film(shots(1), aspect=aspect))
    assert (found.frames[0].width, found.frames[0].height) == size


@pytest.mark.usefixtures("either_way")
def test_frames_of_a_late_uneven_film_are_the_right_ones(
    ingest, write_film, shots, texture, frames_folder
):
    stamps = [9000 + n * 40 if n < 30 else 10200 + (n - 30) * 90 for n in range(60)]
    found = ingest(write_film(shots(3), "late.mkv", rate=25, stamps=stamps))
    assert [frame.shot for frame in found.frames] == [0, 1, 2]
    for frame in found.frames:
        assert closeness(frames_folder(found) / frame.file, texture(frame.shot)) < 6
    assert found.frames[0].time < 0.8


@pytest.mark.usefixtures("either_way")
def test_frames_without_time_stamps_are_found_by_counting(
    ingest, write_film, shots, texture, frames_folder
):
    found = ingest(write_film(shots(3), "raw.h264"))
    assert [frame.shot for frame in found.frames] == [0, 1, 2]
    for frame in found.frames:
        assert closeness(frames_folder(found) / frame.file, texture(frame.shot)) < 6


def test_bars_are_cropped_to_the_pixel_and_not_in_one_dark_shot(
    ingest, write_film, texture, tmp_path
):
    def boxed(seed):
        picture = np.zeros((96, 160, 3), np.uint8)
        picture[12:84] = np.maximum(texture(seed, 160, 72), 40)
        return picture

    with_bars = [boxed(shot) for shot in range(4) for _ in range(20)]
    assert ingest(write_film(with_bars)).frames[0].crop == (0, 12, 160, 84)


def test_bars_of_some_shots_only_stay(ingest, write_film, texture):
    boxed = texture(1).copy()
    boxed[:12] = boxed[84:] = 0
    whole = np.maximum(texture(2), 40)
    assert ingest(write_film([boxed] * 20 + [whole] * 20)).frames[0].crop == (0, 0, 160, 96)


def test_bars_can_be_left(ingest, write_film, texture):
    boxed = texture(1).copy()
    boxed[:12] = boxed[84:] = 0
    found = ingest(write_film([boxed] * 20), "ingest.crop_bars=false")
    assert found.frames[0].crop == (0, 0, 160, 96)


def test_bars_of_real_film(ingest, footage):
    frame = ingest(footage / "sintel-26s.mp4").frames[2]
    assert frame.crop == (0, 59, 848, 420)  # 2.35:1 within 848 x 480; half-mixed rows are bar


def test_the_rendered_film_loses_its_bars_and_has_its_logo_masked(film, ingest):
    truth = json.loads(film.with_suffix(".truth.json").read_text())
    found = ingest(film)
    assert {frame.crop for frame in found.frames} == {tuple(truth["picture"])}
    assert bool(found.frames[0].masks) == bool(truth["film"]["logo"])


def test_the_same_film_gives_the_same_bytes(write_film, shots, tmp_path):
    from iclora.ingest import ingest_source, resolve_sources
    from iclora.presets import load_config
    from iclora.store import Store

    path = write_film(shots(3))
    config = load_config("movie-shots")
    (source,), _ = resolve_sources([str(path)], config.ingest)
    digests = []
    for name in ("one", "two"):
        store = Store(str(tmp_path / name))
        ref = ingest_source(store, source, config)
        folder = tmp_path / name / "stages" / "ingest" / ref.digest
        digests.append({str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.*")})
    assert digests[0] == digests[1]
    assert str(tmp_path).encode() not in digests[0]["manifest.json"]


def test_a_second_run_reads_nothing(store, write_film, shots):
    from iclora.ingest import ingest_source, resolve_sources
    from iclora.presets import load_config

    path = write_film(shots(2))
    config = load_config("movie-shots")
    (source,), _ = resolve_sources([str(path)], config.ingest, store.work_folder)
    first = ingest_source(store, source, config)
    path.unlink()
    assert ingest_source(store, source, config) == first


@given(
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from([-1, 1]),
    st.sampled_from([-1, 1]),
)
def test_a_box_turns_with_its_picture(x0, y0, wide, high, swap, across, down):
    pixels = np.zeros((90, 100, 3), np.uint8)
    pixels[y0 : y0 + high, x0 : x0 + wide] = 255
    shape = FrameOrientation(swap, across, down, Fraction(1))
    turned = upright(pixels, shape)
    a, b, c, d = upright_box((x0, y0, x0 + wide, y0 + high), (100, 90), shape)
    assert (turned[b:d, a:c] == 255).all()
    assert turned.sum() == pixels.sum()
    assert (c - a) * (d - b) == wide * high


@given(st.integers(0, 500), st.integers(1, 300), st.integers(1, 32))
def test_candidates_are_well_spaced(first, length, count):
    chosen = well_spaced(first, first + length, count)
    assert chosen[0] >= first
    assert chosen[-1] < first + length
    assert len(chosen) == min(count, length)
    if len(chosen) > 1 and length >= 2 * count:
        gaps = np.diff(chosen)
        assert gaps.max() - gaps.min() <= 1


@given(st.lists(st.floats(0, 100), min_size=8, max_size=60), st.integers(1, 6))
def test_a_pick_lies_in_its_shot_and_no_candidate_is_sharper(values, candidates):
    sharpness = np.array(values)
    middle = len(values) // 2
    picks = pick_frames([(0, middle), (middle, len(values))], sharpness, candidates, 1)
    assert [pick.shot for pick in picks] == [0, 1]
    for pick, (first, end) in zip(picks, [(0, middle), (middle, len(values))], strict=True):
        assert first <= pick.number < end
        others = well_spaced(first, end, candidates)
        assert sharpness[pick.number] == max(sharpness[n] for n in others)


def test_blur_lowers_sharpness(texture):
    grey = cv2.cvtColor(texture(1), cv2.COLOR_RGB2GRAY)
    assert sharpness_of(cv2.GaussianBlur(grey, (0, 0), 2)) < sharpness_of(grey) / 2
