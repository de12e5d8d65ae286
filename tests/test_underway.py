"""How far the sources in work are: told while they are worked on, and nothing is left behind."""

from __future__ import annotations

import tarfile
from contextlib import contextmanager

import pytest

from iclora.ingest import ingest_source, resolve_sources
from iclora.miniature.film import encode_film
from iclora.miniature.script import film_script
from iclora.presets import load_config
from iclora.sift import score_frames
from iclora.underway import Part, parts_underway, underway


def test_a_part_is_there_while_it_is_worked_on():
    with underway("ingest", "a/film.mp4@0123") as say, underway("quality", "plain"):
        assert parts_underway() == [Part("ingest", "a/film.mp4"), Part("quality", "plain")]
        say(0.25)
        assert parts_underway()[0].share == 0.25
        say(1.5)
        assert parts_underway()[0].share == 1.0
        say(-0.5)
        assert parts_underway()[0].share == 0.0
    assert parts_underway() == []


def test_nothing_is_left_of_a_part_that_fails():
    with pytest.raises(OSError, match="full"), underway("ingest", "film.mp4"):
        raise OSError("the disk is full")
    assert parts_underway() == []


@pytest.fixture
def heard(monkeypatch):
    """What ingest says of its source."""
    said: list[float] = []

    @contextmanager
    def listen(stage, source):
        with underway(stage, source) as say:
            yield lambda share: (said.append(share), say(share))

    monkeypatch.setattr("iclora.ingest.read.underway", listen)
    return said


def ingest(store, place):
    config = load_config("miniature")
    (source,), _ = resolve_sources([str(place)], config.ingest)
    return ingest_source(store, source, config), config


def test_a_film_says_how_much_of_it_is_decoded(store, film, heard):
    ref, config = ingest(store, film)
    assert heard == sorted(heard)
    assert heard[0] == 0.0
    assert 0.9 < heard[-1] < 1.0
    assert max(b - a for a, b in zip(heard, heard[1:], strict=False)) < 0.1
    score_frames(store, ref, config)
    assert parts_underway() == []


def test_films_of_one_archive_share_what_is_said(store, tmp_path, heard):
    archive = tmp_path / "films.tar"
    with tarfile.open(archive, "w") as packed:
        for seed in (0, 2):
            path = tmp_path / f"{seed}.mp4"
            film = film_script(seed)
            encode_film(film.model_copy(update={"shots": film.shots[:4]}), path)
            packed.add(path, path.name)
    ingest(store, archive)
    assert heard == sorted(heard)
    assert sum(share < 0.5 for share in heard) >= 2
    assert sum(share >= 0.5 for share in heard) >= 2
    assert heard[-1] < 1.0


def test_pictures_are_counted(store, tmp_path, film, heard):
    from PIL import Image

    folder = tmp_path / "stills"
    folder.mkdir()
    for number in range(70):
        Image.new("RGB", (96, 64), (number, 90, 200 - number)).save(folder / f"{number:02d}.png")
    ingest(store, folder)
    assert heard == [pytest.approx(64 / 70), 1.0]
