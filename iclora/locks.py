"""Locks between processes of one machine.

A lock is an ``flock`` on a small file: it needs no server and ends with its process. A child that
inherits the file's descriptor keeps the lock when its parent is killed. The file names its holder;
the name is stale once the lock is free.
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
def file_lock(file: Path, work: str, holder: str = "") -> Generator[int]:
    """Waits for a lock, and holds it while the block runs.

    Args:
        file: file of the lock; created if missing.
        work: waiting work for the log, such as "the build of demo".
        holder: name of this process in the file, for the log of others that wait.

    Yields:
        The file's descriptor. A child process that inherits it shares the lock.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(handle):
            holder = file.read_text(encoding="utf-8").strip() or "another process"
            log.warning("%s waits for %s (%s)", work, holder, file)
            while not _try_lock(handle):
                time.sleep(_POLL_SECONDS)
            log.info("%s goes on", work)
        os.ftruncate(handle, 0)
        os.pwrite(handle, (holder or f"process {os.getpid()}").encode(), 0)
        yield handle
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
