"""Turns between processes of one machine.

A lock is an ``flock`` on a small file: it needs no server, outlives no process, and a child that
was given the file's descriptor keeps it held when its parent is killed. The file says who holds
it; it stays, empty of meaning, when the holder is gone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


@contextmanager
def file_lock(file: Path, what: str, holder: str = "") -> Generator[int]:
    """Waits until nobody else holds a lock, and holds it while the block runs.

    Args:
        file: of the lock; made if missing.
        what: what waits, for the log: "the build of demo".
        holder: written into the file, for the log of those who wait.

    Yields:
        The file's descriptor. A child process that inherits it shares the lock.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(handle):
            holder = file.read_text(encoding="utf-8").strip() or "another process"
            log.warning("%s waits for %s (%s)", what, holder, file)
            while not _try_lock(handle):
                time.sleep(_POLL_SECONDS)
            log.info("%s goes on", what)
        os.ftruncate(handle, 0)
        os.pwrite(handle, (holder or f"process {os.getpid()}").encode(), 0)
        yield handle
    finally:
        os.close(handle)


def is_locked(file: Path) -> bool:
    """Whether somebody holds the lock."""
    if not file.exists():
        return False
    handle = os.open(file, os.O_RDONLY)
    try:
        return not _try_lock(handle)
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
