"""A full disk, said so that a person can make room.

Everything that is kept is written through ``store.whole`` and ``Store.atomic_folder``, which look
here at what went wrong; so the sentence is the same for every file of every stage.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from iclora.errors import DiskFull

_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No room, no quota, and a limit on the size of files."""

_FULL_MESSAGES = ("No space left", "os error 28", "os error 27", "disk is full", " requested and ")
"""What libraries say that do not pass the number on: safetensors, sqlite, numpy."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there was no room to write."""
    number = getattr(error, "errno", None)
    return number in _FULL_ERRNOS or (
        number is None and any(sign in str(error) for sign in _FULL_MESSAGES)
    )


@contextmanager
def raise_on_full_disk(place: Path) -> Generator[None]:
    """Says where there is no room, if that is why the block fails.

    Raises:
        DiskFull: the disk (or quota) of ``place`` is full; what is finished is kept.
    """
    try:
        yield
    except Exception as error:  # libraries say it in their own ways; all others are passed on
        if isinstance(error, DiskFull) or not is_disk_full(error):
            raise
        raise DiskFull(full_disk_message(place)) from error


def full_disk_message(place: Path) -> str:
    """Which disk is full, and what to do."""
    there = next((one for one in (place, *place.absolute().parents) if one.exists()), Path("/"))
    left = os.statvfs(there)
    free = left.f_bavail * left.f_frsize / 1e6
    return (
        f"no room to write in {place} ({free:.1f} MB are free on its disk, unless a quota says "
        "less): make room there, or name another disk with --store (for work in progress with "
        "ICLORA_WORK), and run the same command again; what is finished is kept"
    )
