from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def is_locked() -> Callable[[Path], bool]:
    """Tells if any process holds a lock file's lock."""

    def check(file: Path) -> bool:
        with file.open() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    return check
