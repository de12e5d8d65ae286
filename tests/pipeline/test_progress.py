"""Progress of sources: reported while they are worked on, from any process, and nothing is left."""

from __future__ import annotations

import subprocess
import sys
import tarfile

import pytest

from iclora.filtering import score_frames
from iclora.ingest import ingest_source, resolve_sources
from iclora.miniature.film import encode_film
from iclora.miniature.script import film_script
from iclora.pipeline.progress import SharedReports, SourceProgress, SourceReports
from iclora.presets import load_config


def test_a_source_is_active_while_it_is_worked_on():
    reports = SourceReports()
    with reports.track("ingest", "a/film.mp4@0123") as report, reports.track("quality", "plain"):
        assert reports.active() == [
            SourceProgress("ingest", "a/film.mp4"), SourceProgress("quality", "plain"),
        ]  # fmt: skip
        report(0.25)
        assert reports.active()[0].fraction == 0.25
        report(1.5)
        assert reports.active()[0].fraction == 1.0
        report(-0.5)
        assert reports.active()[0].fraction == 0.0
    assert reports.active() == []


def test_nothing_is_left_of_a_source_that_fails():
    reports = SourceReports()
    with pytest.raises(OSError, match="full"), reports.track("ingest", "film.mp4"):
        raise OSError("the disk is full")
    assert reports.active() == []


WORKER = """
import sys, time
from iclora.pipeline.progress import SharedReports
from iclora.store import Store
with SharedReports(Store(sys.argv[1]), "run").track("ingest", "film.mp4@01") as report:
    time.sleep(SharedReports.PAUSE)
    report(0.5)
    print("reported", flush=True)
    sys.stdin.read()
"""


def test_progress_crosses_processes_and_what_a_killed_one_leaves_is_cleared(store):
    reports = SharedReports(store, "run")
    command = [sys.executable, "-c", WORKER, store.url]
    for is_killed in (False, True):
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as worker:
            assert worker.stdout
            assert worker.stdout.readline() == "reported\n"
            assert reports.active() == [SourceProgress("ingest", "film.mp4", 0.5)]
            if is_killed:
                worker.kill()
            else:
                worker.communicate()
        assert bool(reports.active()) is is_killed
    reports.clear()
    assert reports.active() == []
    reports.clear()


def test_what_cannot_be_written_costs_no_work(store, monkeypatch):
    monkeypatch.setattr(SharedReports, "PAUSE", 0.0)
    with SharedReports(store, "run").track("ingest", "film.mp4") as report:
        store.write("progress", b"a file in the way of the folder")
        report(0.5)


def ingest(store, path):
    config = load_config("miniature")
    (source,), _ = resolve_sources([str(path)], config.ingest)
    reported: list[float] = []
    return ingest_source(store, source, config, reported.append), config, reported


def test_a_film_reports_how_much_of_it_is_decoded(store, film):
    ref, config, reported = ingest(store, film)
    assert reported == sorted(reported)
    assert 0.9 < reported[-1] < 1.0
    assert max(b - a for a, b in zip([0.0, *reported], reported, strict=False)) < 0.1
    measured: list[float] = []
    score_frames(store, ref, config, measured.append)
    assert measured[0] == 0.0


def test_films_of_one_archive_share_the_fraction(store, tmp_path):
    archive = tmp_path / "films.tar"
    with tarfile.open(archive, "w") as packed:
        for seed in (0, 2):
            path = tmp_path / f"{seed}.mp4"
            film = film_script(seed)
            encode_film(film.model_copy(update={"shots": film.shots[:4]}), path)
            packed.add(path, path.name)
    _, _, reported = ingest(store, archive)
    assert reported == sorted(reported)
    assert sum(fraction < 0.5 for fraction in reported) >= 2
    assert sum(fraction >= 0.5 for fraction in reported) >= 2
    assert reported[-1] < 1.0


def test_pictures_are_counted(store, tmp_path):
    from PIL import Image

    folder = tmp_path / "stills"
    folder.mkdir()
    for number in range(70):
        Image.new("RGB", (96, 64), (number, 90, 200 - number)).save(folder / f"{number:02d}.png")
    _, _, reported = ingest(store, folder)
    assert reported == [pytest.approx(64 / 70), 1.0]
