"""A disk that is full in the middle of a build."""

from __future__ import annotations

import resource
import subprocess
import textwrap
from pathlib import Path

import pytest
from drill_tools import build_command, files_of, start_build

from iclora.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MIB = 1 << 20
SMALL = MIB // 2
"""Room for the frames of one film and not of three."""


def finish(store, films, overrides, calm):
    """The next run, with room."""
    child = start_build(store, films, overrides)
    heard = child.communicate(timeout=250)[1]
    assert child.returncode == 0, heard
    assert files_of(Store(store)) == calm


def is_whole(store: Path) -> bool:
    """Whether everything in its place is finished: a stage has a manifest or is not there."""
    stages = [path for path in store.glob("stages/*/*") if not path.name.startswith(".")]
    return not (store / "datasets").exists() and all(
        (path / "manifest.json").exists() for path in stages
    )


@pytest.fixture
def disk(tmp_path):
    """How to run a command with a small disk at a folder, without being root."""
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    place = tmp_path / "disk"
    place.mkdir()
    tried = subprocess.run([*mount, f"mount -t tmpfs none {place}"], check=False)
    if tried.returncode != 0:
        pytest.skip("this system lets nobody but root mount a disk")
    return place, mount


def test_a_full_disk_is_a_sentence_and_the_next_run_completes(
    disk, tmp_path, films, overrides, calm, captioner
):
    place, mount = disk
    kept = tmp_path / "kept"
    # The disk goes with its namespace: what the build left on it is copied out before.
    script = f"""
        mount -t tmpfs -o size={SMALL} none {place}
        "$@"
        status=$?
        cp -r {place} {kept}
        exit $status
    """
    command = build_command(str(place / "store"), films, overrides)
    child = subprocess.run(
        [*mount, textwrap.dedent(script), "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert child.returncode == 1, child.stderr
    assert f"no room to write in {place}" in child.stderr
    assert "Traceback" not in child.stderr
    store = kept / "store"
    assert is_whole(store)
    finish(str(store), films, overrides, calm)


def test_files_that_may_not_grow_are_a_sentence_and_the_next_run_completes(
    store, films, overrides, calm, captioner
):
    """What a quota does; needs no rights to mount anything."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    child = start_build(store.url, films, overrides, preexec_fn=limit)
    heard = child.communicate(timeout=250)[1]
    assert child.returncode == 1, heard
    assert "Traceback" not in heard
    assert is_whole(Path(store.root))
    finish(store.url, films, overrides, calm)
