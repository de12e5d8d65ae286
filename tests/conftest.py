"""Fixtures that every room may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from iclora.store import Store

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

# Tests run on two cores beside each other; one thread a model keeps them quick and repeatable.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def _private_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """GPU locks of this run alone: other work on this machine neither waits nor is waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICLORA_LOCKS", str(tmp_path_factory.mktemp("locks")))
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty local store."""
    return Store(str(tmp_path / "store"))


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature family with random weights: ``clip/``, ``vlm/``, ``flux/``."""
    from iclora.miniature.family import build_random_family

    folder = tmp_path_factory.mktemp("family")
    build_random_family(folder)
    return folder


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One rendered film with its truth beside it."""
    from iclora.miniature.film import render_film

    path = tmp_path_factory.mktemp("films") / "film-1.mp4"
    render_film(1, path)
    return path


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder of real film, where it is at hand."""
    return _shared("footage")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The published configuration and three of its sets, where they are at hand."""
    return _shared("reference")


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder.name} is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A private Prefect: its own database and its own results."""
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_RESULTS_LOCAL_STORAGE_PATH,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    settings = {
        PREFECT_RESULTS_LOCAL_STORAGE_PATH: tmp_path_factory.mktemp("results"),
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with temporary_settings(settings), prefect_test_harness(server_startup_timeout=120):
        yield
