"""Access to source bytes: local paths are used in place, remote ones are copied once.

``_reaching`` maps every access failure to one of two errors: ``BadInput`` for a location that does
not exist, and ``UnreadableInput`` for a source that cannot be read and receives a verdict.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
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
from iclora.ingest.inside import Listing, check_file, list_files, printable
from iclora.ingest.readers import separate_kind
from iclora.ingest.result import UnreadableInput
from iclora.redact import HIDDEN, redact_text, redact_url, url_secrets
from iclora.store import atomic_path, file_sha256
from iclora.web import EndlessListing, ForbiddenAddress, describe, is_missing, web_options
from schemas.base import DIGEST_LENGTH

log = logging.getLogger(__name__)

UNREADABLE = "unreadable"
"""Verdict reason for a source that cannot be reached or opened."""

FORBIDDEN = "forbidden_address"
"""Verdict reason for a source whose server redirects to a forbidden address."""

_MAX_FOLDERS = 10_000
_MAX_FILES = 1_000_000
_MAX_DEPTH = 32
"""Maximum number of folders below each other on a web server."""

_MAX_SMALL_BYTES = 1 << 20
_LONGEST_REASON = 300
"""Maximum number of characters of a third-party error message in a verdict."""

_COPY_LOCKS: dict[Path, Lock] = {}
"""One lock per copy, keyed by destination, so that two sources in one folder share a copy."""


def default_work_folder() -> Path:
    """Returns the default folder for copies of remote sources: ``ICLORA_WORK`` or a temp folder."""
    return Path(os.environ.get("ICLORA_WORK") or Path(tempfile.gettempdir()) / "iclora-work")


def is_url(location: str) -> bool:
    """Returns True if a location names a protocol (``s3://``, ``file://``)."""
    return "://" in location


def public_name(location: str) -> str:
    """Returns the last component of a path or URL, without secrets."""
    name = redact_url(location)
    for hidden in (f"{HIDDEN}@", f"?{HIDDEN}", f"#{HIDDEN}"):
        name = name.replace(hidden, "")
    return name.rstrip("/").rsplit("/", 1)[-1]


def without_scheme(location: str) -> str:
    """Converts a ``file://`` URL to a path; returns other locations unchanged."""
    scheme, mark, _ = location.partition("://")
    if mark and "::" not in location and scheme in LocalFileSystem.protocol:
        return str(fsspec.core.strip_protocol(location))
    return location


def local_copy(location: str, work: Path) -> Path:
    """Returns a local path for a location; copies remote files and folders once.

    The path of a copy encodes the remote version (etag, size, date), so a changed source is
    copied again.

    Raises:
        BadInput: The location does not exist, or its protocol is unknown.
        UnreadableInput: The location is not a regular file or folder, or cannot be reached.
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
    """Returns True if a location is a folder.

    Raises:
        BadInput: The protocol is unknown.
        UnreadableInput: The location cannot be reached.
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
        except (ValueError, ImportError) as error:  # unknown protocol or missing package
            shown = redact_url(location)
            raise BadInput(f"{shown} cannot be read: {_reason(error, location)}") from error
    return fsspec.core.url_to_fs(location, **web_options(location))


@contextmanager
def _reaching(location: str) -> Generator[None]:
    """Converts any file system error to a one-sentence error.

    Raises:
        BadInput: The location does not exist.
        UnreadableInput: The location cannot be reached or leads to a forbidden address.
    """
    try:
        yield
    except Exception as error:  # each protocol client raises its own exceptions
        shown = redact_url(location)
        cause: BaseException | None = error
        while cause is not None:  # fsspec reports any failure as a missing file
            if isinstance(cause, ForbiddenAddress):
                raise UnreadableInput(FORBIDDEN, f"{shown} is not read: {cause}") from error
            cause = cause.__cause__
        if isinstance(error, EndlessListing):
            raise UnreadableInput(UNREADABLE, f"{shown} is not read: {error}") from error
        if isinstance(error, IcloraError):
            raise
        if is_missing(error):
            raise BadInput(f"{shown} does not exist") from error
        raise UnreadableInput(
            UNREADABLE, f"{shown} cannot be read: {_reason(error, location)}"
        ) from error


def _reason(error: Exception, location: str) -> str:
    """Formats a third-party error as one printable line, without the secrets of the location."""
    text = error.strerror if isinstance(error, OSError) and error.filename else describe(error)
    text = redact_text(" ".join((text or "").split()), url_secrets(location))
    return printable(text)[:_LONGEST_REASON] or type(error).__name__


def size_of(location: str, work: Path) -> int | None:
    """Returns the size of a source in bytes, or None if no local copy exists.

    Args:
        location: Location of a resolved source.
        work: Folder that holds copies of remote sources.
    """
    try:
        path = local_copy(location, work)
    except BadInput:  # a pattern of shards, or gone since
        return None
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return path.stat().st_size
    except OSError:  # a hub id, or gone since
        return None


def list_at(folder: str) -> Listing:
    """Lists the files below a folder as relative paths in natural order, excluding junk.

    Raises:
        UnreadableInput: The folder cannot be listed.
    """
    if not is_url(folder):
        return list_files(Path(folder))
    with _reaching(folder):
        fs, path = _open_file_system(folder)
        files = [file.removeprefix(str(path)).lstrip("/") for file in _find(fs, path)]
    return Listing(
        sorted(
            (name for name in files if not file_types.is_junk(name)), key=file_types.natural_key
        ),
        [],
    )


def _find(fs: fsspec.AbstractFileSystem, path: str) -> list[str]:
    """Finds the files below a folder; bounds the listings of a web server, which may make them up.

    Raises:
        EndlessListing: The folders of a web server are too many or too deep.
    """
    files: set[str] = set()
    walk: Any = fs.walk(path, detail=True) if "http" in fs.protocol else ()
    for number, (folder, _, inside) in enumerate(walk):
        files.update(str(info["name"]) for info in inside.values())
        depth = str(folder).removeprefix(path).count("/")
        if number >= _MAX_FOLDERS or len(files) > _MAX_FILES or depth > _MAX_DEPTH:
            raise EndlessListing("its folders do not end; name a folder below it")
    return sorted(files) or [str(file) for file in fs.find(path)]


def read_small_file(location: str, folder: str = "") -> bytes | None:
    """Reads up to 1 MiB of a file; returns None if the file does not exist.

    Args:
        location: Location of the file.
        folder: Folder that must contain a local file; empty to allow any location.

    Raises:
        UnreadableInput: The file exists, but cannot or must not be read.
    """
    if is_url(location):
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
        except BadInput as error:  # deleted since the check
            raise UnreadableInput(UNREADABLE, str(error)) from error
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


def _copy_file(fs: fsspec.AbstractFileSystem, path: str, work: Path) -> Path:
    name = (urlsplit(path).path if is_url(path) else path).rsplit("/", 1)[-1] or "file"
    copy = work / "fetched" / _version_tag([f"{path} {fs.ukey(path)}"]) / name
    with _COPY_LOCKS.setdefault(copy, Lock()):
        if not copy.exists():
            with atomic_path(copy) as scratch:
                fs.get_file(path, str(scratch))
            log.info("%s copied, %.1f MB", name, copy.stat().st_size / 1e6)
    return copy


def _copy_folder(fs: fsspec.AbstractFileSystem, path: str, work: Path) -> Path:
    files = sorted(file for file in _find(fs, path) if separate_kind(file) is None)
    tag = _version_tag(f"{file} {fs.ukey(file)}" for file in files)
    copy = work / "fetched" / tag / (public_name(path) or "folder")
    with _COPY_LOCKS.setdefault(copy, Lock()), raise_on_full_disk(work):
        if copy.exists():
            return copy
        copy.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=copy.parent))
        try:
            for file in files:
                target = scratch / file.removeprefix(path).lstrip("/")
                if not target.resolve().is_relative_to(scratch.resolve()):
                    detail = f"{redact_url(file)} would be written outside its folder"
                    raise UnreadableInput("unsafe_path", printable(detail))
                target.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(file, str(target))
            scratch.rename(copy)
            log.info("%s copied, %d files", copy.name, len(files))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return copy


def _version_tag(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGEST_LENGTH]


def known_sha256(file: Path) -> str:
    """Computes the sha256 of a file; cached until its device, inode, size or times change.

    Raises:
        OSError: The file cannot be read.
    """
    now = file.stat()
    stamp = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    return _sha256_at(str(file), stamp)


@lru_cache(maxsize=1 << 15)
def _sha256_at(file: str, _stamp: tuple[int, ...]) -> str:
    """Computes a sha256, cached because pictures are digested per folder and per picture."""
    return file_sha256(Path(file))


def digest_file(file: Path) -> str:
    """Computes the content digest of a file as stored in ``Source``.

    Raises:
        UnreadableInput: The file cannot be read.
    """
    try:
        return known_sha256(file)[:DIGEST_LENGTH]
    except OSError as error:
        raise UnreadableInput(
            "unreadable", f"{file.name} cannot be read: {error.strerror}"
        ) from error


def digest_if_readable(file: Path) -> str:
    """Computes the content digest of a file, or returns ``"unreadable"`` if it cannot be read.

    An unreadable file receives its own verdict during ingest.
    """
    try:
        return digest_file(file)
    except UnreadableInput:
        return "unreadable"


def digest_source(
    location: str, files: Sequence[str], work: Path, digest: Callable[[Path], str] = digest_file
) -> str:
    """Computes the content digest of a file, or of selected files of a folder.

    Args:
        location: Location of the file or folder.
        files: File names relative to the folder; empty for a file.
        work: Folder for the copy of a remote source.
        digest: Function that digests one file of a folder.

    Raises:
        BadInput: The location does not exist.
        UnreadableInput: The source cannot be read.
    """
    path = local_copy(location, work)
    if not files:
        return digest_file(path)
    lines = sorted(f"{name}\0{digest(path / name)}" for name in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:DIGEST_LENGTH]
