"""What the machine refuses: files nobody may read, and a disk that is full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from iclora.ingest import ingest_source, resolve_sources
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from iclora.store import Store
from schemas.stage import Ingested

NOBODY = 65534


@contextmanager
def not_root() -> Iterator[None]:
    """Root may read everything, so root becomes somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users may use too; pytest's are its owner's alone."""
    folder = Path(tempfile.mkdtemp(prefix="iclora-public-"))
    folder.chmod(0o777)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o755)
    shutil.rmtree(folder)


def read(public: Path, *places: Path):
    """The verdicts on sources, and of each source its verdicts."""
    config = load_config("movie-shots")
    store = Store(str(public / "store"))
    sources, judged = resolve_sources(
        [str(place) for place in places], config.ingest, store.work_folder
    )
    found = [result_of(store, ingest_source(store, source, config), Ingested) for source in sources]
    return judged, found


def test_what_may_not_be_read_has_a_verdict_and_the_others_go_on(
    public, tmp_path, write_film, shots, texture
):
    film = public / "locked.mp4"
    shutil.copy(write_film(shots(1)), film)
    folder = public / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(texture(number)).save(folder / f"{number}.png")
    public.chmod(0o777)
    read(public, film, folder)  # everything that is imported late is imported now
    shutil.rmtree(public / "store")
    for locked in (film, folder / "1.png"):
        locked.chmod(0)
    with not_root():
        judged, found = read(public, film, folder)
    assert [(v.outcome, v.reason) for v in judged] == [("failed", "unreadable"), ("kept", "")]
    assert "locked.mp4 cannot be read: Permission denied" in judged[0].detail
    (pictures,) = found
    assert sorted(v.reason for v in pictures.verdicts) == ["", "", "unreadable"]
    assert len(pictures.frames) == 2

    (folder / "1.png").chmod(0o644)
    with not_root():
        _, (pictures,) = read(public, folder)  # it may be read now: it is
    assert [v.outcome for v in pictures.verdicts] == ["kept"] * 3


def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(tmp_path, film):
    """No file may grow past a few blocks: what a full disk does, at the first large file."""
    command = [sys.executable, "-m", "iclora", "build", str(film), "--json"]
    command += ["--store", str(tmp_path / "store"), "--name", "films", "--preset", "miniature"]
    full = ["bash", "-c", 'ulimit -f 24; exec "$@"', "bash", *command]
    ended = subprocess.run(full, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    store = tmp_path / "store"
    said = json.loads(ended.stdout)["error"]
    assert f"no room to write in {store}" in said
    assert "run the same command again" in said
    assert "Errno" not in ended.stdout + ended.stderr
    assert not (store / "datasets").exists()
    left = {path.name for path in (store / ".work").iterdir()}
    assert left <= {"locks"}, "nothing half done is left"
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["samples"] > 0
