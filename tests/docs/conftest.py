"""Pages taken apart into their fenced blocks, and a place where their commands can be run.

The word behind a block's language says how it is tested: nothing: run by `make test`; ``slow``: run
by `make drills`; ``elsewhere``: it needs a GPU, a network or a licence, so only its options and
settings are checked; a file's name: the block is that file.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHOTS = 12


class Block(NamedTuple):
    language: str
    word: str
    text: str


def blocks_of(page: str) -> list[Block]:
    return [Block(*found) for found in _FENCE.findall((ROOT / page).read_text(encoding="utf-8"))]


@pytest.fixture(scope="session")
def blocks():
    """A page's blocks in order."""
    return blocks_of


@pytest.fixture(scope="session")
def seed_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short films and the dataset that the README's first command makes of them."""
    from iclora.build import build_dataset
    from iclora.miniature.film import encode_film
    from iclora.miniature.script import film_script
    from iclora.presets import load_config
    from iclora.store import Store

    place = tmp_path_factory.mktemp("docs")
    (place / "films").mkdir()
    for seed in (1, 2):
        film = film_script(seed)
        short = film.model_copy(update={"shots": film.shots[:_SHOTS]})
        encode_film(short, place / "films" / f"film-{seed}.mp4")
        (place / f"films/film-{seed}.mp4.toml").write_text('licence = "Apache-2.0"\n')
    store = Store(str(place / "store"))
    build_dataset(store, [str(place / "films")], load_config("miniature"), "storyboard")
    return place


@pytest.fixture
def place(seed_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    here = tmp_path / "here"
    shutil.copytree(seed_place, here)
    monkeypatch.chdir(here)
    return here
