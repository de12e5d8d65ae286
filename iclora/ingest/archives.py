"""Safe unpacking of untrusted archives.

Extracts only regular files, only below the target folder, and only up to the limits on size and
compression ratio. Each refused member is reported, and unpacking continues with the rest.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, cast

from iclora.ingest.file_types import is_junk
from iclora.ingest.inside import check_name, printable
from iclora.ingest.result import UnreadableInput
from schemas.ingest import IngestParams

_CHUNK = 1 << 20
_SMALL = 1 << 16
"""Size in bytes up to which a member is exempt from the ratio limit."""

_LONGEST_PART = 200
"""Maximum bytes per file or folder name; file systems allow 255."""

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError)


RefusedMember = tuple[str, UnreadableInput]
"""Name of an archive member that is not unpacked, and the reason."""


class _UnpackLimits:
    """The remaining byte budget of one archive."""

    def __init__(self, packed: int, params: IngestParams) -> None:
        self._ratio = params.max_archive_ratio
        self._packed = max(packed, 1)
        honest = max(_SMALL, int(self._packed * self._ratio))
        self.left = min(honest, params.max_archive_bytes)

    def check(self, name: str, size: int, packed: int) -> None:
        """Checks the declared size of a member against the limits.

        Raises:
            UnreadableInput: The member exceeds the ratio limit or the remaining budget.
        """
        ratio = size / max(packed, 1)
        if size > _SMALL and ratio > self._ratio:
            detail = f"{name} unpacks to {ratio:.0f} times its size"
            raise UnreadableInput("archive_bomb", detail, ratio, self._ratio)
        self.add(name, 0, size)

    def add(self, name: str, count: int, more: int = 0) -> None:
        """Subtracts ``count`` unpacked bytes from the budget.

        Raises:
            UnreadableInput: The remaining budget is smaller than ``more``.
        """
        self.left -= count
        if self.left < more:
            raise UnreadableInput(
                "archive_bomb", f"{name} and what came before it unpack to too much"
            )


def unpack(archive: Path, folder: Path, params: IngestParams) -> list[RefusedMember]:
    """Unpacks the files of a zip or tar archive.

    Args:
        archive: Archive file; its format is detected from its content.
        folder: Empty folder that receives the files under their member names.
        params: Ingest parameters; uses the archive limits.

    Returns:
        The refused members with their reasons.

    Raises:
        UnreadableInput: The file is not a zip or tar archive.
    """
    try:
        empty = not archive.stat().st_size
        zipped = zipfile.is_zipfile(archive)
    except OSError as error:
        raise UnreadableInput("unreadable", f"{archive.name}: {error.strerror}") from error
    if empty:
        raise UnreadableInput("empty_file", f"{archive.name} is empty")
    return (_unpack_zip if zipped else _unpack_tar)(archive, folder, params)


def _unpack_zip(archive: Path, folder: Path, params: IngestParams) -> list[RefusedMember]:
    budget = _UnpackLimits(archive.stat().st_size, params)
    refused: list[RefusedMember] = []
    with _mapped(archive), zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            name = info.filename.replace("\\", "/")
            if info.is_dir() or is_junk(name):
                continue
            with _collect_refusals(name, refused):
                check_name(name)
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise UnreadableInput("link", f"{name} is a link")
                if info.flag_bits & 1:
                    raise UnreadableInput("encrypted", f"{name} is encrypted")
                budget.check(name, info.file_size, info.compress_size)
                _extract(name, folder, budget, partial(opened.open, info))
    return refused


def _unpack_tar(archive: Path, folder: Path, params: IngestParams) -> list[RefusedMember]:
    packed = archive.stat().st_size
    budget = _UnpackLimits(packed, params)
    refused: list[RefusedMember] = []
    with _mapped(archive), tarfile.open(archive, "r:*") as opened:
        members = iter(opened)
        while True:
            try:
                member = next(members, None)
            except (*_BROKEN, OSError) as error:
                why = UnreadableInput("broken_archive", f"{archive.name} breaks off: {error}")
                return [*refused, (archive.name, why)]
            if member is None:
                return refused
            if member.isdir() or is_junk(member.name):
                continue
            with _collect_refusals(member.name, refused):
                check_name(member.name)
                if member.issym() or member.islnk():
                    target = printable(member.linkname)
                    raise UnreadableInput("link", f"{member.name} is a link to {target}")
                if not member.isreg():
                    raise UnreadableInput("special_file", f"{member.name} is not a regular file")
                budget.check(member.name, member.size, packed)
                # extractfile returns None only for members that are no regular files.
                extract = partial(opened.extractfile, member)
                _extract(member.name, folder, budget, cast("Callable[[], IO[bytes]]", extract))


def _extract(
    name: str, folder: Path, budget: _UnpackLimits, open_member: Callable[[], IO[bytes]]
) -> None:
    target = folder / safe_name(name)
    if target.exists():
        raise UnreadableInput("duplicate_name", f"{name} is in the archive twice")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UnreadableInput("unsafe_path", f"{name} lies below a file") from error
    complete = False
    try:
        with open_member() as packed, target.open("wb") as file:
            while chunk := packed.read(_CHUNK):
                budget.add(name, len(chunk))
                file.write(chunk)
        complete = True
    except (*_BROKEN, NotImplementedError) as error:  # zipfile: unknown compression method
        raise UnreadableInput("broken_member", f"{name} cannot be unpacked: {error}") from error
    finally:
        if not complete:
            target.unlink(missing_ok=True)


def safe_name(name: str) -> PurePosixPath:
    """Converts a member name to a path below the target folder.

    Raises:
        UnreadableInput: The name leads outside the folder or is not a valid file name.
    """
    path = PurePosixPath(name)
    drive = len(name) > 1 and name[1] == ":"
    if path.is_absolute() or drive or ".." in path.parts or not path.parts:
        raise UnreadableInput("unsafe_path", f"{name} leads out of the archive")
    check_name(name)
    if any(len(part.encode()) > _LONGEST_PART for part in path.parts):
        raise UnreadableInput("unsafe_path", f"{name!r} is not a name a file can have")
    return path


@contextmanager
def _collect_refusals(name: str, refused: list[RefusedMember]) -> Generator[None]:
    """Appends a refusal to ``refused`` instead of raising it."""
    try:
        yield
    except UnreadableInput as why:
        refused.append((name, why))


@contextmanager
def _mapped(archive: Path) -> Generator[None]:
    """Converts archive format errors to ``UnreadableInput``."""
    try:
        yield
    except _BROKEN as error:
        raise UnreadableInput(
            "not_an_archive", f"{archive.name} is not a zip or tar archive"
        ) from error
