"""Getting at a source's bytes: local paths as they are, anything else copied once."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from threading import Lock

import fsspec
from fsspec.implementations.local import LocalFileSystem

from iclora.disk import raise_on_full_disk
from iclora.errors import BadInput
from iclora.ingest import file_types
from iclora.ingest.result import UnreadableInput
from iclora.store import atomic_path, file_sha256
from schemas.base import DIGEST_LENGTH

log = logging.getLogger(__name__)

_MAX_SMALL_BYTES = 1 << 20

_COPY_LOCKS: dict[Path, Lock] = {}
"""A lock a copy."""


def default_work_folder() -> Path:
    """Where remote sources are copied if nobody says."""
    return Path(os.environ.get("ICLORA_WORK") or Path(tempfile.gettempdir()) / "iclora-work")


def is_url(location: str) -> bool:
    """Whether a location names a protocol (``s3://``, ``file://``)."""
    return "://" in location


def local_copy(location: str, work: Path) -> Path:
    """A local path with a location's content; a remote file or folder is copied once.

    The copy's name holds what the remote side says of its version (etag, size, date), so a
    changed source is copied anew.

    Raises:
        BadInput: there is nothing there, or the protocol is unknown or cannot be reached.
    """
    if not is_url(location):
        return Path(location)
    try:
        fs, path = fsspec.core.url_to_fs(location)
        if isinstance(fs, LocalFileSystem):
            return Path(path)
        if fs.isdir(path):
            return _copy_folder(fs, path.rstrip("/"), work)
        return _copy_file(fs, path, work)
    except (OSError, ValueError, ImportError) as error:  # whatever its file system raises
        raise BadInput(f"{location} cannot be read: {error}") from error


def is_folder(location: str) -> bool:
    """Whether there is a folder at a location."""
    if not is_url(location):
        return Path(location).is_dir()
    try:
        fs, path = fsspec.core.url_to_fs(location)
        return bool(fs.isdir(path))
    except (OSError, ValueError, ImportError) as error:  # whatever its file system raises
        raise BadInput(f"{location} cannot be read: {error}") from error


def size_of(location: str, work: Path) -> int | None:
    """The bytes of a file or folder, if it is here or was copied; else None.

    Args:
        location: of a resolved source.
        work: where remote sources were copied.
    """
    try:
        place = local_copy(location, work)
    except BadInput:  # a pattern of shards, or gone since
        return None
    try:
        if place.is_dir():
            return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        return place.stat().st_size
    except OSError:  # a hub id, or gone since
        return None


def list_files(folder: str) -> list[str]:
    """The files below a folder, relative to it, in natural order; junk left out.

    Raises:
        Unreadable: it cannot be listed.
    """
    if not is_url(folder):
        return file_types.files_below(Path(folder))
    fs, path = fsspec.core.url_to_fs(folder)
    found = [str(file).removeprefix(str(path)).lstrip("/") for file in fs.find(path)]
    return sorted(
        (name for name in found if not file_types.is_junk(name)), key=file_types.natural_key
    )


def read_small_file(location: str) -> bytes | None:
    """The bytes of a small file, None if there is none.

    Raises:
        Unreadable: it is there and cannot be read.
    """
    try:
        fs, path = fsspec.core.url_to_fs(location)
        if not fs.isfile(path):
            return None
        with fs.open(path, "rb") as file:
            data: bytes = file.read(_MAX_SMALL_BYTES)
    except (OSError, ValueError) as error:
        name = location.rsplit("/", 1)[-1]
        raise UnreadableInput("unreadable", f"{name} cannot be read: {error}") from error
    return data


def _copy_lock(place: Path) -> Lock:
    """Held while a copy is made, so that a folder that is two sources is copied once."""
    return _COPY_LOCKS.setdefault(place, Lock())


def _copy_file(fs: fsspec.AbstractFileSystem, path: str, work: Path) -> Path:
    name = path.rsplit("/", 1)[-1]
    copy = work / "fetched" / _version_tag([f"{path} {fs.ukey(path)}"]) / name
    with _copy_lock(copy):
        if not copy.exists():
            with atomic_path(copy) as scratch:
                fs.get_file(path, str(scratch))
            log.info("%s copied, %.1f MB", name, copy.stat().st_size / 1e6)
    return copy


def _copy_folder(fs: fsspec.AbstractFileSystem, path: str, work: Path) -> Path:
    files = sorted(str(file) for file in fs.find(path) if not _is_source_itself(str(file)))
    tag = _version_tag(f"{file} {fs.ukey(file)}" for file in files)
    place = work / "fetched" / tag / path.rsplit("/", 1)[-1]
    with _copy_lock(place), raise_on_full_disk(work):
        if place.exists():
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=place.parent))
        try:
            for file in files:
                target = scratch / file.removeprefix(path).lstrip("/")
                if not target.resolve().is_relative_to(scratch.resolve()):
                    raise BadInput(f"{file} would be written outside its folder")
                target.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(file, str(target))
            scratch.rename(place)
            log.info("%s copied, %d files", place.name, len(files))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return place


def _is_source_itself(name: str) -> bool:
    """Films and archives in a folder are sources of their own and copied as such."""
    return file_types.is_film(name) or (
        file_types.is_archive(name) and not file_types.is_shard(name)
    )


def _version_tag(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGEST_LENGTH]


def known_sha256(file: Path) -> str:
    """The sha256 of a file's bytes; taken once while the system says that it is unchanged.

    Raises:
        OSError: it cannot be read.
    """
    now = file.stat()
    stamp = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    return _sha256_at(str(file), stamp)


@lru_cache(maxsize=1 << 15)
def _sha256_at(file: str, _stamp: tuple[int, ...]) -> str:
    """A folder's pictures are digested to tell the folder, and again to tell each of them."""
    return file_sha256(Path(file))


def digest_file(file: Path) -> str:
    """The digest of a file's bytes, as sources carry it.

    Raises:
        Unreadable: it cannot be read.
    """
    try:
        return known_sha256(file)[:DIGEST_LENGTH]
    except OSError as error:
        raise UnreadableInput(
            "unreadable", f"{file.name} cannot be read: {error.strerror}"
        ) from error


def digest_if_readable(file: Path) -> str:
    """The digest of a file's bytes, or a word for one that cannot be read.

    It gets its own verdict when it is ingested, and the others go on.
    """
    try:
        return digest_file(file)
    except UnreadableInput:
        return "unreadable"


def digest_files(
    folder: Path, names: Iterable[str], digest: Callable[[Path], str] = digest_file
) -> str:
    """The digest over the sorted relative names and the bytes of files.

    Args:
        folder: holds the files.
        names: relative to it.
        digest: of one file.

    Raises:
        Unreadable: one cannot be read, and ``digest`` minds.
    """
    lines = sorted(f"{name}\0{digest(folder / name)}" for name in names)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGEST_LENGTH]
