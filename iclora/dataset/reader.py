"""Dataset reader: opens a version by path, URL or name, and reads its samples from the tars."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from pydantic import ValidationError

from iclora.dataset.shard_writer import FORMATS, Sample
from iclora.errors import BadInput
from iclora.store import MANIFEST, Store, refuse_special
from schemas.base import PATH_FAULT, is_version, shortened
from schemas.dataset import SCHEMA_VERSION, DatasetManifest, DatasetRef, ShardEntry
from schemas.sample import SampleRecord, Split
from schemas.store_paths import dataset_path

LATEST = "LATEST"
"""File with one line: the version that the dataset's bare name refers to."""

LARGEST_SAMPLE = 1 << 29
"""Maximum bytes of a sample's members; a canvas of nine uncompressed 4K panels has 230 MB."""

_MOST_MEMBERS = 64
"""Maximum number of members per sample; this package writes three."""

_NAME = re.compile(r"([a-z0-9_-]+)(?:@([a-z0-9]+))?")


class UnsafeManifest(BadInput):
    """Error for a manifest that names files outside of its dataset; none of them is opened."""


class Dataset:
    """Published dataset version.

    Attributes:
        store: the store it is in, or a store whose root is the version's folder.
        folder: the version's folder relative to the store's root (empty: the root itself).
        manifest: the version's manifest.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self.store = store
        self.folder = folder
        self.manifest: DatasetManifest = _read_manifest(store, folder)

    def __len__(self) -> int:
        return self.manifest.samples

    @property
    def url(self) -> str:
        """Address of the folder."""
        return self.store.address(self.folder).rstrip("/")

    @property
    def ref(self) -> DatasetRef:
        """Serializable reference to this version."""
        manifest = self.manifest
        return DatasetRef(
            name=manifest.name, version=manifest.version, samples=manifest.samples, url=self.url
        )

    def path(self, file: str) -> str:
        """Returns a file's path relative to the store's root."""
        return f"{self.folder}/{file}" if self.folder else file

    def local(self, file: str) -> Path:
        """Returns a local file with the content of one of the dataset's files."""
        return self.store.local_path(self.path(file))

    def shards(self, split: Split | None = None) -> tuple[ShardEntry, ...]:
        """Returns the shards of one split, or all, in order."""
        return tuple(s for s in self.manifest.shards if split in {None, s.split})

    def samples(self, split: Split | None = None) -> Iterator[Sample]:
        """Yields the samples of one split, or all, in shard order.

        Only one sample is in memory at a time; nothing is unpacked to disk.
        """
        for shard in self.shards(split):
            yield from self.samples_of(shard)

    def samples_of(self, shard: ShardEntry) -> Iterator[Sample]:
        """Yields the samples of one shard.

        Raises:
            BadInput: the shard is damaged.
        """
        path = self.store.path(self.path(shard.file))
        if self.store.is_local and Path(path).exists():
            refuse_special(Path(path))
        try:
            with cast("IO[bytes]", self.store.fs.open(path, "rb")) as file:
                yield from read_samples(file)
        except (OSError, tarfile.TarError, ValueError) as error:
            raise BadInput(
                f"{self.store.address(self.path(shard.file))} is damaged ({error}); "
                "`iclora verify` names the broken samples"
            ) from error


def read_samples(file: IO[bytes]) -> Iterator[Sample]:
    """Yields the samples of an open tar written by ``write_shards``.

    Raises:
        ValueError: members are missing, or a record is invalid.
        tarfile.TarError: the tar is incomplete.
    """
    for group in group_members(file):
        key = group[0].key
        members = {member.extension: member.data for member in group}
        images = [ext for ext in members if ext in FORMATS]
        if len(images) != 1 or not {"json", "txt"} <= set(members):
            raise ValueError(f"{key} has the members {', '.join(sorted(members))}")
        yield Sample(
            record=SampleRecord.from_text(members["json"]),
            text=members["txt"].decode(),
            image=members[images[0]],
            extension=images[0],
        )


class Member(NamedTuple):
    """Member of a tar, with its content."""

    info: tarfile.TarInfo
    key: str
    """Name up to the first dot."""

    extension: str
    """Name after the first dot."""

    data: bytes


class UnsafeMember(tarfile.ReadError):
    """Error for a member that would exhaust memory; other readers must not open it either."""


def group_members(file: IO[bytes]) -> Iterator[list[Member]]:
    """Groups adjacent members of a tar by key, in file order.

    Raises:
        tarfile.ReadError: the tar is truncated or malformed.
        UnsafeMember: a sample exceeds the size limit, for example as a sparse file.
    """
    group = list[Member]()
    try:
        with tarfile.open(fileobj=file, mode="r|") as tar:
            for info in tar:
                key, _, extension = info.name.partition(".")
                if group and key != group[0].key:
                    yield group
                    group = []
                group.append(Member(info, key, extension, _read_member(tar, info, group)))
    except tarfile.ReadError:
        raise
    except Exception as error:  # tarfile raises much else on damaged headers
        raise tarfile.ReadError(str(error) or type(error).__name__) from error
    if group:
        yield group


def _read_member(tar: tarfile.TarFile, info: tarfile.TarInfo, group: list[Member]) -> bytes:
    """Reads a member, unless it makes the sample of these members too large."""
    size = info.size + sum(len(member.data) for member in group)
    if size > LARGEST_SAMPLE or len(group) >= _MOST_MEMBERS:
        raise UnsafeMember(f"the sample of {shortened(info.name)} is too large")
    handle = tar.extractfile(info)
    return handle.read() if handle else b""


def open_dataset(store: Store, dataset: str) -> Dataset:
    """Finds a dataset version.

    Args:
        store: store for bare names.
        dataset: ``name`` (its latest version), ``name@version``, or the path or URL of a version's
            folder or of a name's folder.

    Raises:
        BadInput: the dataset does not exist; the message lists the existing ones.
    """
    match = _NAME.fullmatch(dataset)
    if match and store.exists(dataset_path(match[1])):
        folder = dataset_path(match[1])
        version = match[2] or _latest(store, folder)
        if not store.exists(f"{folder}/{version}/{MANIFEST}"):
            names = store.listdir(folder)
            versions = [name for name in names if store.exists(f"{folder}/{name}/{MANIFEST}")]
            raise BadInput(
                f"{store.address(folder)} has no version {version}; "
                f"it has {', '.join(versions) or 'none'}"
            )
        return Dataset(store, dataset_path(match[1], version=version))
    if match and not Path(dataset).is_dir():
        names = store.listdir("datasets")
        raise BadInput(
            f"no dataset {dataset!r} in {store.url}; there is {', '.join(names) or 'none'}"
        )
    opened = Store(dataset)
    if opened.exists(MANIFEST):
        return Dataset(opened, "")
    if opened.exists(LATEST):
        return Dataset(opened, _latest(opened, ""))
    raise BadInput(f"{dataset} is not a dataset: it has no {MANIFEST}")


def _latest(store: Store, folder: str) -> str:
    path = f"{folder}/{LATEST}" if folder else LATEST
    if not store.exists(path):
        raise BadInput(f"{store.address(folder)} has no {LATEST}: its first build is not finished")
    version = store.read(path).decode(errors="replace").strip()
    if not is_version(version):
        raise BadInput(f"{store.address(path)} names no version: {shortened(version)}")
    return version


def _read_manifest(store: Store, folder: str) -> DatasetManifest:
    path = f"{folder}/{MANIFEST}" if folder else MANIFEST
    address = store.address(path)
    try:
        manifest = DatasetManifest.from_text(store.read(path))
    except ValidationError as error:
        faults = error.errors()
        for fault in faults:
            if fault["type"] == PATH_FAULT:
                raise UnsafeManifest(f"{address} is not safe: {fault['msg']}") from error
        field = ".".join(str(part) for part in faults[0]["loc"])
        raise BadInput(
            f"{address} is not a dataset's manifest ({field}: {faults[0]['msg']})"
        ) from error
    if manifest.schema_version > SCHEMA_VERSION:
        raise BadInput(
            f"{address} was written by a newer iclora (format "
            f"{manifest.schema_version}, this one reads {SCHEMA_VERSION}): update iclora"
        )
    return manifest
