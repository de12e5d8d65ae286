"""The film world: the same pixels and bytes every time, and a truth that is true."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import av
import numpy as np
import pytest
from PIL import Image

from iclora.miniature.draw import render_frame, render_panel
from iclora.miniature.film import encode_film, film_frame, film_frames, film_truth, read_truth
from iclora.miniature.script import FPS, HEIGHT, WIDTH, FilmScript, film_script
from iclora.miniature.world import random_attributes, random_view, seeded

RECORDED = "94a780934f9a95ca"


def digest(pictures) -> str:
    total = hashlib.sha256()
    for picture in pictures:
        total.update(picture.tobytes())
    return total.hexdigest()[:16]


def shorter(film: FilmScript, shots: int) -> FilmScript:
    return film.model_copy(update={"shots": film.shots[:shots]})


def sample_frames() -> list[Image.Image]:
    rng = seeded("test", 1)
    drawn = [render_frame(random_attributes(rng), random_view(rng)) for _ in range(12)]
    film = film_script(3)
    return [*drawn, *(film_frame(film, shot, 2) for shot in film.shots)]


def test_frames_are_the_same_pixels_on_every_machine() -> None:
    assert digest(sample_frames()) == RECORDED


def test_a_script_is_a_function_of_its_seed() -> None:
    assert film_script(7) == film_script(7)
    assert film_script(7) != film_script(8)


@pytest.mark.parametrize("seed", range(40))
def test_scripts_keep_their_promises(seed: int) -> None:
    film = film_script(seed)
    assert 4 <= len(film.scenes) <= 7
    assert film.shots[0].kind == "title"
    assert film.shots[-1].kind == "credits"
    assert all(one.end == other.start for one, other in pairwise(film.shots))
    assert all(one.place != other.place for one, other in pairwise(film.scenes))
    assert len({(scene.place, scene.light) for scene in film.scenes}) == len(film.scenes)
    for number in range(len(film.scenes)):
        shots = [shot for shot in film.shots if shot.scene == number]
        good = [shot.attributes for shot in shots if shot.kind == "scene" and shot.attributes]
        assert len(good) >= 3
        assert all(good[0].same_scene(other) for other in good)
        assert len({(shot.shot, shot.action) for shot in good}) == len(good)


def test_film_and_truth_agree(tmp_path) -> None:
    film = shorter(film_script(2), 5)
    truth = encode_film(film, tmp_path / "film.mp4")
    assert read_truth(tmp_path / "film.mp4") == truth
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "film.truth.json"]
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert container.streams.video[0].average_rate == FPS
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == truth.frames
    assert frames[0].shape == (HEIGHT, WIDTH, 3)
    for decoded, drawn in zip(frames, film_frames(film), strict=True):
        assert np.abs(decoded.astype(int) - np.asarray(drawn)).mean() < 6
    jumps = [np.abs(b.astype(int) - a).mean() for a, b in pairwise(frames)]
    plain = [cut for cut in truth.cuts if jumps[cut - 1] > 12]
    assert len(plain) >= len(truth.cuts) - 1


def test_the_file_is_the_same_bytes_every_time(tmp_path) -> None:
    film = shorter(film_script(5), 2)
    for name in ("a", "b"):
        encode_film(film, tmp_path / f"{name}.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_broken_run_leaves_no_film(tmp_path, monkeypatch) -> None:
    def breaks(_film: FilmScript):
        raise KeyboardInterrupt

    monkeypatch.setattr("iclora.miniature.film.film_frames", breaks)
    with pytest.raises(KeyboardInterrupt):
        encode_film(film_script(1), tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists()


def test_rubbish_covers_every_shot_that_is_not_a_scene() -> None:
    for seed in range(12):
        truth = film_truth(film_script(seed))
        spoilt = {n for piece in truth.rubbish for n in range(piece.start, piece.end)}
        for shot in truth.film.shots:
            clean = set(range(shot.start, shot.end)) - spoilt
            assert bool(clean) == (shot.kind == "scene")


def test_bars_are_black_and_a_logo_is_where_the_truth_says() -> None:
    films = [film_script(seed) for seed in range(40)]
    barred = next(film for film in films if film.bar)
    frame = np.asarray(film_frame(barred, barred.shots[1], 9))
    assert frame[: barred.bar].max() == 0
    assert frame[-barred.bar :].max() == 0
    marked = next(film for film in films if film.logo)
    bare = marked.model_copy(update={"logo": None})
    shown, hidden = (np.asarray(film_frame(film, film.shots[1], 9)) for film in (marked, bare))
    rows, columns = np.nonzero((shown != hidden).any(axis=2))
    x0, y0, x1, y1 = marked.logo or (0, 0, 0, 0)
    assert (columns.min() >= x0, rows.min() >= y0) == (True, True)
    assert (columns.max() < x1, rows.max() < y1) == (True, True)


def test_a_panel_is_a_small_square_of_the_frame() -> None:
    rng = seeded("panel", 0)
    for _ in range(8):
        attributes, view = random_attributes(rng), random_view(rng)
        cut = render_frame(attributes, view).crop((32, 0, 224, 192)).reduce(3)
        panel = np.asarray(render_panel(attributes, view), dtype=int)
        assert panel.shape == (64, 64, 3)
        assert np.abs(panel - np.asarray(cut)).mean() < 6
