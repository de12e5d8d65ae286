"""Store of all artifacts: a local folder or any fsspec URL.

Files are addressed by their path below the root. A file or folder appears whole or not at all: it
is written beside its path and renamed; on an object store a folder is whole when its manifest
exists, which is uploaded last. A path that leads out of the root is refused, because manifests and
listings name files and may be somebody else's. Listings are never cached: another machine may have
finished a stage a moment ago. Retries are left to the object store's client and its settings.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from iclora.disk import raise_on_full_disk
from iclora.errors import BadInput, IcloraError, UserError
from iclora.redact import redact_text, redact_url, url_secrets
from schemas.base import path_fault, shortened

MANIFEST = "manifest.json"

_SYNC_THREADS = 8
"""Number of files synced concurrently: a disk's journal takes many at once as fast as one."""


def file_sha256(path: Path) -> str:
    """Computes the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_special(path: Path) -> None:
    """Refuses pipes and devices, because reading them may never end.

    Raises:
        BadInput: the path exists and is no regular file.
    """
    if not path.is_file():
        raise BadInput(f"{path} is not a file")


@contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """Yields a scratch path beside ``path`` and renames it to ``path`` if the block succeeds.

    The file is synced to disk before the rename, so a power cut leaves the old file or the new
    one. If the block raises, the scratch file is removed and ``path`` is untouched.

    Raises:
        DiskFull: the disk is full.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(3).hex()}.tmp")
    try:
        with raise_on_full_disk(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield scratch
            with scratch.open("rb") as file:
                os.fsync(file.fileno())
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes) -> None:
    """Writes a small file atomically."""
    with atomic_path(path) as scratch:
        scratch.write_bytes(data)


class Store:
    """Reads and writes below one root.

    Attributes:
        url: URL or path of the root, without a trailing slash.
        work_folder: local folder of running work: ``ICLORA_WORK`` of the environment, else
            ``.work`` inside a local store, else a folder below the system's temporary one.
    """

    def __init__(self, url: str) -> None:
        """Opens a store.

        Raises:
            BadInput: the URL's protocol is unknown, or its file system cannot be used here.
        """
        try:
            fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except Exception as error:  # every file system has errors of its own
            missing = isinstance(error, ImportError) and url.startswith("s3")
            hint = "; try: pip install 'iclora[s3]'" if missing else ""
            reason = redact_text(str(error), url_secrets(url))
            raise BadInput(f"{redact_url(url)}: {reason}{hint}") from error
        self.fs: fsspec.AbstractFileSystem = fs
        self.root: str = root.rstrip("/")
        self.is_local = isinstance(fs, LocalFileSystem)
        self.url = self.root if self.is_local else url.rstrip("/")
        if folder := os.environ.get("ICLORA_WORK"):
            self.work_folder = Path(folder)
        elif self.is_local:
            self.work_folder = Path(self.root) / ".work"
        else:
            name = hashlib.sha256(self.url.encode()).hexdigest()[:12]
            self.work_folder = Path(tempfile.gettempdir()) / f"iclora-work-{name}"

    def path(self, relative: str) -> str:
        """Returns the file system's own name of a path below the root; empty means the root.

        Raises:
            BadInput: the path leads out of the root, or no file can have it.
        """
        if not relative:
            return self.root
        if fault := path_fault(relative):
            raise BadInput(f"{shortened(relative)} leads out of {self.url}: {fault}")
        return f"{self.root}/{relative}"

    def address(self, relative: str) -> str:
        """Returns the URL (or local path) of a path below the root."""
        return f"{self.url}/{relative}"

    def exists(self, relative: str) -> bool:
        """Checks if a file or folder exists; false for a path that leads out of the root."""
        if relative and path_fault(relative):
            return False
        with self._translate_errors(relative):
            return bool(self.fs.exists(self.path(relative)))

    def listdir(self, relative: str) -> list[str]:
        """Lists the sorted names in a folder; empty if there is no such folder."""
        if not self.exists(relative):
            return []
        with self._translate_errors(relative):
            paths = self.fs.ls(self.path(relative), detail=False, refresh=True)
        names = {str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths}
        return sorted(name for name in names if not name.startswith(".") and not path_fault(name))

    def files(self, relative: str) -> list[str]:
        """Lists the sorted paths of all files below a folder, relative to it.

        Raises:
            BadInput: one of them leads out of the folder.
        """
        folder = self.path(relative)
        with self._translate_errors(relative):
            names = [str(path).removeprefix(f"{folder}/") for path in self.fs.find(folder)]
        for name in names:
            if fault := path_fault(name):
                raise BadInput(f"{shortened(name)} leads out of {self.address(relative)}: {fault}")
        return sorted(names)

    def read(self, relative: str) -> bytes:
        """Reads a file.

        Raises:
            BadInput: there is no such file, or it is a pipe or a device.
        """
        if self.is_local and Path(self.path(relative)).exists():
            refuse_special(Path(self.path(relative)))
        with self._translate_errors(relative):
            try:
                return cast("bytes", self.fs.cat_file(self.path(relative)))
            except FileNotFoundError as error:
                raise BadInput(f"{self.address(relative)} does not exist") from error

    def write(self, relative: str, data: bytes) -> None:
        """Writes one file atomically; an existing one is replaced."""
        if self.is_local:
            atomic_write(Path(self.path(relative)), data)
        else:
            with self._translate_errors(relative):
                self.fs.pipe_file(self.path(relative), data)

    def remove(self, relative: str) -> None:
        """Removes a file or a folder, if it exists."""
        with self._translate_errors(relative), suppress(FileNotFoundError):
            self.fs.rm(self.path(relative), recursive=True)

    def local_path(self, relative: str) -> Path:
        """Returns a local file; a remote one is copied into the work folder once.

        Raises:
            BadInput: the path leads out of the root.
        """
        path = self.path(relative)  # checks the path before it is joined to the work folder
        if self.is_local:
            return Path(path)
        copy = self.work_folder / "copies" / relative
        if not copy.exists():
            self.copy(relative, copy)
        return copy

    def copy(self, relative: str, target: Path) -> None:
        """Copies a file to a local path, atomically.

        Raises:
            BadInput: the path leads out of the root.
        """
        source = self.path(relative)
        with atomic_path(target) as scratch, self._translate_errors(relative):
            self.fs.get_file(source, str(scratch))

    @contextmanager
    def atomic_folder(self, relative: str) -> Generator[Path]:
        """Yields an empty local folder that becomes ``relative`` if the block succeeds.

        The block must leave a ``manifest.json``. If ``relative`` exists by then (another process
        did the same work), the result is dropped: equal digests mean equal content.

        Raises:
            DiskFull: the disk is full.
        """
        with self.scratch_folder(relative.replace("/", "-")) as scratch:
            yield scratch
            assert (scratch / MANIFEST).exists(), f"{relative} was left without a manifest"
            self._publish(scratch, relative)

    @contextmanager
    def scratch_folder(self, name: str) -> Generator[Path]:
        """Yields an empty folder in the work folder, and removes it when the block ends.

        Raises:
            DiskFull: the disk is full.
        """
        with raise_on_full_disk(self.work_folder):
            self.work_folder.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=self.work_folder))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, scratch: Path, relative: str) -> None:
        if self.exists(f"{relative}/{MANIFEST}"):
            return
        if self.is_local:
            with raise_on_full_disk(Path(self.path(relative))):
                _rename_folder(scratch, Path(self.path(relative)))
            return
        files = [path for path in sorted(scratch.rglob("*")) if path.is_file()]
        rest = [path for path in files if path != scratch / MANIFEST]
        with self._translate_errors(relative):
            for group in (rest, [scratch / MANIFEST]):  # the manifest last
                targets = [self.path(f"{relative}/{file.relative_to(scratch)}") for file in group]
                self.fs.put([str(file) for file in group], targets)

    @contextmanager
    def _translate_errors(self, relative: str) -> Generator[None]:
        """Turns the errors of an object store's client into one sentence.

        Raises:
            UserError: access is denied, or the bucket does not exist.
            IcloraError: the network or the server failed for longer than the client waits.
        """
        try:
            yield
        except Exception as error:  # every object store's client has errors of its own
            if self.is_local or isinstance(error, IcloraError):
                raise
            refused = isinstance(error, (PermissionError, FileNotFoundError))
            keyless = "Credentials" in type(error).__name__  # botocore's, which is not imported
            kind = UserError if refused or keyless else IcloraError
            reason = redact_text(str(error), url_secrets(self.url))
            raise kind(f"{self.address(relative)} cannot be reached: {reason}") from error


def _fsync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


def _rename_folder(scratch: Path, target: Path) -> None:
    """Syncs a folder to disk and moves it to its path, which may be on another disk."""
    files = [path for path in scratch.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(_SYNC_THREADS) as pool:
        list(pool.map(_fsync, files))
    scratch.chmod(0o755)
    target.parent.mkdir(parents=True, exist_ok=True)
    if scratch.stat().st_dev == target.parent.stat().st_dev:
        _move(scratch, target)
        return
    copy = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:  # ICLORA_WORK is on another disk
        _move(shutil.copytree(scratch, copy / target.name), target)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _move(folder: Path, target: Path) -> None:
    """Renames a folder, unless another process put the same content there first."""
    try:
        folder.rename(target)
    except OSError:
        if (target / MANIFEST).exists():
            return
        if not target.is_dir():
            raise
        shutil.rmtree(target)  # leftovers without a manifest: never made by a rename
        folder.rename(target)
