"""Detection of a full disk, with a message that says what to do.

``store.atomic_path`` and ``Store.atomic_folder`` write all artifacts and use it, so the message is
the same for every file of every stage.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from iclora.errors import DiskFull

_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Error numbers: no room, no quota, and a limit on the size of files."""

_FULL_MESSAGES = ("No space left", "os error 28", "os error 27", "disk is full", " requested and ")
"""Messages of libraries that do not pass the number on: safetensors, sqlite, numpy."""


def is_disk_full(error: BaseException) -> bool:
    """Checks if an error means that there was no room to write."""
    number = getattr(error, "errno", None)
    return number in _FULL_ERRNOS or (
        number is None and any(sign in str(error) for sign in _FULL_MESSAGES)
    )


@contextmanager
def raise_on_full_disk(folder: Path) -> Generator[None]:
    """Names the full disk, if that is why the block fails.

    Raises:
        DiskFull: the disk (or quota) of ``folder`` is full; finished work is kept.
    """
    try:
        yield
    except Exception as error:  # libraries have their own types for a full disk
        if isinstance(error, DiskFull) or not is_disk_full(error):
            raise
        raise DiskFull(full_disk_message(folder)) from error


def full_disk_message(folder: Path) -> str:
    """Names the full disk, its free space and the remedy."""
    paths = (folder, *folder.absolute().parents)
    disk = os.statvfs(next((path for path in paths if path.exists()), Path("/")))
    free = disk.f_bavail * disk.f_frsize / 1e6
    return (
        f"no room to write in {folder} ({free:.1f} MB are free on its disk, unless a quota says "
        "less): make room there, or name another disk with --store (for work in progress with "
        "ICLORA_WORK), and run the same command again; what is finished is kept"
    )
