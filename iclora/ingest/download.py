"""Fetches a source's bytes: local paths as they are, anything else is copied once.

Whatever goes wrong between here and a remote place becomes one of two errors in ``_reaching``: the
user named what does not exist, or the source cannot be read and gets its verdict.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, cast
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

from iclora.disk import raise_on_full_disk
from iclora.errors import BadInput, IcloraError
from iclora.ingest import file_types
from iclora.ingest.inside import Listing, check_file, printable
from iclora.ingest.result import UnreadableInput
from iclora.redact import HIDDEN, redact_text, redact_url, url_secrets
from iclora.store import atomic_path, file_sha256
from iclora.web import ForbiddenAddress, describe, is_missing, web_options
from schemas.base import DIGEST_LENGTH

log = logging.getLogger(__name__)

UNREADABLE = "unreadable"
"""The reason of a source that cannot be reached or opened."""

FORBIDDEN = "forbidden_address"
"""The reason of a source whose server leads to an address that it must not lead to."""

_MAX_SMALL_BYTES = 1 << 20
_LONGEST_REASON = 300
"""Characters of another library's error that go into a verdict."""

_COPY_LOCKS: dict[Path, Lock] = {}
"""A lock a copy."""


def default_work_folder() -> Path:
    """Where remote sources are copied if nobody says."""
    return Path(os.environ.get("ICLORA_WORK") or Path(tempfile.gettempdir()) / "iclora-work")


def is_url(location: str) -> bool:
    """Whether a location names a protocol (``s3://``, ``file://``)."""
    return "://" in location


def public_name(location: str) -> str:
    """Names the last part of a path or URL, without secrets."""
    name = redact_url(location)
    for hidden in (f"{HIDDEN}@", f"?{HIDDEN}", f"#{HIDDEN}"):
        name = name.replace(hidden, "")
    return name.rstrip("/").rsplit("/", 1)[-1]


def without_scheme(location: str) -> str:
    """Turns a ``file://`` URL into the path it stands for."""
    scheme, mark, _ = location.partition("://")
    if mark and "::" not in location and scheme in LocalFileSystem.protocol:
        return str(fsspec.core.strip_protocol(location))
    return location


def local_copy(location: str, work: Path) -> Path:
    """Makes a local path with a location's content; a remote file or folder is copied once.

    The copy's name holds what the remote side says of its version (etag, size, date), so a
    changed source is copied anew.

    Raises:
        BadInput: there is nothing there, or the protocol is unknown.
        Unreadable: it is no regular file or folder, or it cannot be reached.
    """
    local = without_scheme(location)
    if not is_url(local):
        check_file(Path(local))
        return Path(local)
    with _reaching(location):
        fs, path = _open_file_system(location)
        if fs.isdir(path):
            return _copy_folder(fs, path.rstrip("/"), work)
        return _copy_file(fs, path, work)


def is_folder(location: str) -> bool:
    """Tells whether there is a folder at a location.

    Raises:
        BadInput: the protocol is unknown.
        Unreadable: it cannot be reached.
    """
    if not is_url(location):
        return Path(location).is_dir()
    with _reaching(location):
        fs, path = _open_file_system(location)
        return bool(fs.isdir(path))


def _open_file_system(location: str) -> tuple[fsspec.AbstractFileSystem, str]:
    for link in location.split("::"):
        protocol, _ = fsspec.core.split_protocol(link)
        try:
            fsspec.get_filesystem_class(protocol or "file")
        except (ValueError, ImportError) as error:  # an unknown one, or a package that is missing
            place = redact_url(location)
            raise BadInput(f"{place} cannot be read: {_reason(error, location)}") from error
    return fsspec.core.url_to_fs(location, **web_options(location))


@contextmanager
def _reaching(location: str) -> Generator[None]:
    """Turns whatever a file system raises into one sentence.

    Raises:
        BadInput: there is nothing at this location.
        Unreadable: it cannot be reached, or it leads where it must not.
    """
    try:
        yield
    except ForbiddenAddress as error:
        raise _forbidden(location, error) from error
    except IcloraError:
        raise
    except Exception as error:  # every protocol's client has errors of its own
        cause: BaseException | None = error
        while cause is not None:  # fsspec takes any failure for a missing file
            if isinstance(cause, ForbiddenAddress):
                raise _forbidden(location, cause) from error
            cause = cause.__cause__
        place = redact_url(location)
        if is_missing(error):
            raise BadInput(f"{place} does not exist") from error
        raise UnreadableInput(
            UNREADABLE, f"{place} cannot be read: {_reason(error, location)}"
        ) from error


def _forbidden(location: str, why: ForbiddenAddress) -> UnreadableInput:
    return UnreadableInput(FORBIDDEN, f"{redact_url(location)} is not read: {why}")


def _reason(error: Exception, location: str) -> str:
    """Makes one printable line of another library's error, without the location's secrets."""
    text = error.strerror if isinstance(error, OSError) and error.filename else describe(error)
    text = redact_text(" ".join((text or "").split()), url_secrets(location))
    return printable(text)[:_LONGEST_REASON] or type(error).__name__


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


def list_at(folder: str) -> Listing:
    """Lists the files below a folder, relative to it, in natural order; junk left out.

    Raises:
        Unreadable: it cannot be listed.
    """
    if not is_url(folder):
        return file_types.look_below(Path(folder))
    with _reaching(folder):
        fs, path = _open_file_system(folder)
        found = [str(file).removeprefix(str(path)).lstrip("/") for file in fs.find(path)]
    return Listing(
        sorted(
            (name for name in found if not file_types.is_junk(name)), key=file_types.natural_key
        ),
        [],
    )


def read_small_file(location: str, folder: str = "") -> bytes | None:
    """Reads a small file; None if there is none.

    Args:
        location: of the file.
        folder: the file must lie in it, if both are local; empty if it may lie anywhere.

    Raises:
        Unreadable: it is there and cannot be read, or may not be.
    """
    if is_url(location):
        return _read_remote(location)
    file = Path(location)
    check_file(file, Path(folder) if folder else None)
    try:
        if not file.is_file():
            return None
        with file.open("rb") as opened:
            return opened.read(_MAX_SMALL_BYTES)
    except OSError as error:
        raise UnreadableInput(
            UNREADABLE, f"{file.name} cannot be read: {error.strerror}"
        ) from error


def _read_remote(location: str) -> bytes | None:
    try:
        with _reaching(location):
            fs, path = _open_file_system(location)
            if not fs.isfile(path):
                return None
            with fs.open(path, "rb") as opened:
                data: bytes = cast("Any", opened).read(_MAX_SMALL_BYTES)
                return data
    except UnreadableInput:
        raise
    except BadInput as error:  # it was there a moment ago
        raise UnreadableInput(UNREADABLE, str(error)) from error


def _copy_lock(place: Path) -> Lock:
    """Held while a copy is made, so that a folder that is two sources is copied once."""
    return _COPY_LOCKS.setdefault(place, Lock())


def _copy_file(fs: fsspec.AbstractFileSystem, path: str, work: Path) -> Path:
    name = (urlsplit(path).path if is_url(path) else path).rsplit("/", 1)[-1] or "file"
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
    place = work / "fetched" / tag / (public_name(path) or "folder")
    with _copy_lock(place), raise_on_full_disk(work):
        if place.exists():
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=place.parent))
        try:
            for file in files:
                target = scratch / file.removeprefix(path).lstrip("/")
                if not target.resolve().is_relative_to(scratch.resolve()):
                    detail = f"{redact_url(file)} would be written outside its folder"
                    raise UnreadableInput("unsafe_path", printable(detail))
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
