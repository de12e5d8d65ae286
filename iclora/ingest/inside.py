"""Decides which files may be opened: regular files, and of a folder only those inside it.

A folder that somebody else made may hold links to private files, pipes that nobody writes to and
devices without an end. Every reader of a folder takes its files from here.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from iclora.ingest.result import UnreadableInput

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters of a name that no log, table or terminal takes: control characters, broken UTF-8."""

_LONGEST_SHOWN = 200


class Listing(NamedTuple):
    """The files below a folder."""

    files: list[str]
    """Names relative to the folder; each is a regular file, or a link to one inside the folder."""

    refused: list[tuple[str, UnreadableInput]]
    """Everything else, with the reason; the names are fit to print."""


def list_files(folder: Path) -> Listing:
    """Lists what lies below a folder, unordered; a link to a folder is not entered.

    Raises:
        Unreadable: the folder or one below it cannot be listed.
    """
    files: list[str] = []
    refused: list[tuple[str, UnreadableInput]] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as found:
                entries = list(found)
        except OSError as error:
            raise UnreadableInput(
                "unreadable", f"{folder.name} cannot be listed: {error.strerror}"
            ) from error
        for entry in entries:
            name = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{name}/")
                continue
            try:
                check_name(name)
                if not entry.is_file(follow_symlinks=False):
                    check_file(folder / name, folder)
            except UnreadableInput as why:
                refused.append((printable(name), why))
                continue
            # The files of a linked folder inside are listed where they lie. Path.is_dir raises
            # where a link leads to a place that may not be looked at.
            if not (entry.is_symlink() and os.path.isdir(entry.path)):  # noqa: PTH112
                files.append(name)
    return Listing(files, refused)


def check_name(name: str) -> None:
    """Checks that a name can be printed and stored.

    Raises:
        Unreadable: it holds control characters or is not UTF-8.
    """
    if _UNFIT.search(name):
        raise UnreadableInput("unsafe_path", f"{printable(name)} is not a name a file can have")


def printable(name: str) -> str:
    """Escapes what ``check_name`` refuses."""
    return _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), name)


def check_file(file: Path, folder: Path | None = None) -> None:
    """Checks that a file may be opened; whether it can be is for the reader to see.

    Args:
        file: what is about to be opened.
        folder: of the source, which a link must not leave; None if the user named the file.

    Raises:
        Unreadable: it lies outside the folder, or is a pipe or a device.
    """
    name = printable(file.name)[:_LONGEST_SHOWN]
    if folder is not None and not _lies_in(folder, os.path.realpath(file)):
        reason, what = ("link", "link") if file.is_symlink() else ("unsafe_path", "path")
        raise UnreadableInput(
            reason,
            f"{name} is a {what} that leads out of {printable(folder.name)}; name what it leads "
            "to as a source, or copy it",
        )
    try:
        kind = file.stat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise UnreadableInput("special_file", f"{name} is a pipe, a socket or a device")


def _lies_in(folder: Path, real: str) -> bool:
    home = folder.resolve()
    return Path(real).is_relative_to(home) or any(
        Path(real).is_relative_to(blobs) for blobs in _hub_blobs(home)
    )


def _hub_blobs(home: Path) -> list[Path]:
    """Finds where the files of a folder in the Hugging Face hub's cache really lie.

    That cache has ``<repository>/snapshots/<revision>/…``, all links into ``<repository>/blobs``.
    """
    return [
        snapshot.parent.parent / "blobs"
        for snapshot in (home, *home.parents)
        if snapshot.parent.name == "snapshots"
    ]
