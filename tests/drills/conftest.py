"""Films, a captioner and the bytes of an undisturbed build: what every drill starts from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iclora.build import build_dataset
from iclora.presets import load_config
from iclora.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from drilling import Captioner, files_of

SHOTS = 11


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> list[Path]:
    """The first shots of three films."""
    from iclora.miniature.film import encode_film
    from iclora.miniature.script import film_script

    folder = tmp_path_factory.mktemp("short-films")
    paths = [folder / f"film-{seed}.mp4" for seed in (1, 2, 3)]
    for seed, path in enumerate(paths, 1):
        film = film_script(seed)
        encode_film(film.model_copy(update={"shots": film.shots[:SHOTS]}), path)
    return paths


@pytest.fixture(scope="session")
def _server() -> Iterator[Captioner]:
    server = Captioner()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def captioner(_server) -> Iterator[Captioner]:
    """A running captioner that has been asked nothing; the same address in every drill."""
    _server.stop()
    _server.asked.clear()
    _server.delay = 0.0
    _server.start()
    yield _server
    _server.stop()


@pytest.fixture(scope="session")
def overrides(_server, family) -> dict[str, Any]:
    """A build of the films that keeps all it can."""
    return {
        "sift.clip": str(family / "clip"),
        "sift.sets.band.floor": -0.9,
        "sift.sets.band.ceiling": 0.99999,
        "sift.sets.band.ends": -1.0,
        "sift.max_set_similarity": 1.0,
        "caption.way": "canvas",
        "caption.captioner.kind": "server",
        "caption._server.url": _server.url,
        "caption.captioner.model": "stub",
        "caption.captioner.json_output": False,
    }


@pytest.fixture(scope="session")
def calm(tmp_path_factory, films, overrides) -> dict[str, bytes]:
    """The files of a build that nothing disturbed."""
    store = Store(str(tmp_path_factory.mktemp("calm")))
    config = load_config("miniature", overrides)
    build_dataset(store, [str(film) for film in films], config, "films")
    return files_of(store)
