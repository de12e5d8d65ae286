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
from drill_tools import Captioner, Operations, adapter_files, files_of

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
    _server.keys.clear()
    _server.delay = 0.0
    _server.start()
    yield _server
    _server.stop()


@pytest.fixture(scope="session")
def overrides(_server, family) -> dict[str, Any]:
    """A build of the films that keeps all it can."""
    return {
        "filter.clip": str(family / "clip"),
        "filter.sets.similarity.min_adjacent": -0.9,
        "filter.sets.similarity.near_duplicate": 0.99999,
        "filter.sets.similarity.min_first_last": -1.0,
        "filter.max_set_similarity": 1.0,
        "caption.mode": "canvas",
        "caption.tokenizer": "",
        "caption.max_tokens": 512,
        "caption.captioner.kind": "server",
        "caption.captioner.url": _server.url,
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


@pytest.fixture(scope="session")
def _operations(tmp_path_factory) -> Iterator[Operations]:
    here = Operations(tmp_path_factory.mktemp("operations"))
    yield here
    here.down()


@pytest.fixture
def operations(_operations) -> Operations:
    """Server, pools, deployments and workers; whatever a drill before this one killed is up."""
    _operations.up()
    return _operations


@pytest.fixture(scope="session")
def steps(tmp_path_factory):
    """A training of some seconds on a tiny base."""
    import torch

    from iclora.miniature.flux_folder import build_flux, save_flux
    from iclora.miniature.sizes import TINY

    folder = tmp_path_factory.mktemp("tiny") / "flux"
    torch.manual_seed(0)
    save_flux(build_flux(TINY), folder)
    return {
        "base.model": str(folder),
        "data.resolutions": [64],
        "train.steps": 60,
        "train.batch": 2,
        "train.lora.rank": 2,
        "train.save_every": 5,
        "train.validate_every": 30,
        "train.validate_timesteps": [0.5],
    }


@pytest.fixture(scope="session")
def trained(tmp_path_factory, _server, films, overrides, steps):
    """A store with a dataset, and the files of a training that nothing disturbed."""
    _server.start()
    place = Store(str(tmp_path_factory.mktemp("trained")))
    build_dataset(
        place, [str(film) for film in films], load_config("miniature", overrides), "films"
    )
    _server.stop()
    from iclora.train import train_adapter

    ref = train_adapter(place, "films", load_config("miniature", steps), "mine")
    return place, adapter_files(Path(ref.url))


@pytest.fixture
def untrained(store, trained):
    """A store with the same dataset and no adapter."""
    Path(store.root).mkdir()
    (Path(store.root) / "datasets").symlink_to(Path(trained[0].root) / "datasets")
    return store
