"""File access checks: only regular files inside the source folder may be opened.

An untrusted folder may contain links to private files, pipes that block forever and endless
devices. All folder readers list their files through this module.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from iclora.ingest.file_types import is_junk, natural_key
from iclora.ingest.result import UnreadableInput

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters not allowed in names: control characters and invalid UTF-8."""

_LONGEST_SHOWN = 200


class Listing(NamedTuple):
    """The permitted and refused files below a folder."""

    files: list[str]
    """Relative names of regular files and of links to regular files inside the folder."""

    refused: list[tuple[str, UnreadableInput]]
    """Printable names of all other entries, with the reasons."""


def list_files(folder: Path) -> Listing:
    """Lists the files below a folder in natural order, excluding junk; follows no links to folders.

    Raises:
        UnreadableInput: The folder or a subfolder cannot be listed.
    """
    files: list[str] = []
    refused: list[tuple[str, UnreadableInput]] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as scan:
                entries = list(scan)
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
            # Files of a linked folder are listed at their real location. Path.is_dir would raise
            # for a link to an inaccessible target.
            if not (entry.is_symlink() and os.path.isdir(entry.path)):  # noqa: PTH112 - no Path per file
                files.append(name)
    return Listing(
        sorted((name for name in files if not is_junk(name)), key=natural_key),
        sorted(
            (entry for entry in refused if not is_junk(entry[0])),
            key=lambda entry: natural_key(entry[0]),
        ),
    )


def check_name(name: str) -> None:
    """Checks that a name can be printed and stored.

    Raises:
        UnreadableInput: The name contains control characters or is not valid UTF-8.
    """
    if _UNFIT.search(name):
        raise UnreadableInput("unsafe_path", f"{printable(name)} is not a name a file can have")


def printable(name: str) -> str:
    """Escapes the characters that ``check_name`` rejects."""
    return _UNFIT.sub(lambda match: match[0].encode("unicode_escape").decode(), name)


def check_file(file: Path, folder: Path | None = None) -> None:
    """Checks that a file is safe to open, without checking that it is readable.

    Args:
        file: File to open.
        folder: Source folder that must contain the file; None if the user named the file.

    Raises:
        UnreadableInput: The file is outside the folder, or is a pipe, a socket or a device.
    """
    name = printable(file.name)[:_LONGEST_SHOWN]
    if folder is not None and not _lies_in(folder, os.path.realpath(file)):
        reason, noun = ("link", "link") if file.is_symlink() else ("unsafe_path", "path")
        raise UnreadableInput(
            reason,
            f"{name} is a {noun} that leads out of {printable(folder.name)}; name what it leads "
            "to as a source, or copy it",
        )
    try:
        mode = file.stat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UnreadableInput("special_file", f"{name} is a pipe, a socket or a device")


def _lies_in(folder: Path, real: str) -> bool:
    home = folder.resolve()
    # The Hugging Face hub cache stores <repository>/snapshots/<revision>/… as links to
    # <repository>/blobs.
    blobs = [
        snapshot.parent.parent / "blobs"
        for snapshot in (home, *home.parents)
        if snapshot.parent.name == "snapshots"
    ]
    return any(Path(real).is_relative_to(allowed) for allowed in (home, *blobs))
