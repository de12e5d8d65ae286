"""A running `make up` in a copy of this checkout, and films for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from iclora.miniature.film import render_film

sys.path.insert(0, str(Path(__file__).parent))
from stack import Stack


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    """A folder of films, of which a test takes as many as it wants."""
    folder = tmp_path_factory.mktemp("films")
    for seed in range(6):
        render_film(seed, folder / f"{seed}.mp4")
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory) -> Iterator[Stack]:
    """`make up`, and at the end `make down`, twice."""
    made = Stack(tmp_path_factory.mktemp("stack"))
    try:
        made.make("up")
    except AssertionError:
        made.make("down")
        raise
    yield made
    made.make("down")
    made.make("down")
    assert not (made.checkout / "prefect.toml").exists()
    assert list((made.checkout / ".operate").glob("*.pid")) == []
    with pytest.raises(httpx.ConnectError):
        made.get("health")
