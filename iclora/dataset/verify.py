"""Verification of a dataset version by reading it back with several readers.

Three readers read every shard: the standard library's tarfile (for this package's checks),
webdataset and ``datasets``. The last two must find the same samples with the same bytes, so samples
they silently drop, merge or truncate are problems. Problems of samples come first, in shard order,
so the first problem names the first broken sample.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tarfile
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from iclora.dataset.cross_readers import SampleDigest, cross_reader_problems, digest_sample
from iclora.dataset.publish import INDEX, REJECTS, SAMPLES, version_of
from iclora.dataset.reader import Dataset, UnsafeManifest, UnsafeMember, group_members, open_dataset
from iclora.dataset.sample_checks import ReadSample, header_problems, read_sample, sample_problems
from iclora.dataset.shard_writer import wids_index
from iclora.dataset.tables import read_rows, sample_row
from iclora.store import MANIFEST, Store, file_sha256
from schemas.dataset import DatasetManifest, Problem, ShardEntry, Verification

log = logging.getLogger(__name__)

Row = dict[str, Any]

_UNREADABLE = (OSError, ValueError, LookupError, TypeError, pa.ArrowException)
"""Exceptions raised for a damaged table; invalid UTF-8 raises ValueError."""


class _VerificationState:
    """State of one verification."""

    def __init__(self, folder: Path, manifest: DatasetManifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.problems: list[Problem] = []
        self.read: dict[str, list[SampleDigest]] = {}
        """Sample digests by shard."""

        self.unsafe: set[str] = set()
        """Shards that no other reader may open."""

    def file(self, name: str) -> Path:
        """Returns a file of the dataset; rejects pipes and devices, which might never end.

        Raises:
            FileNotFoundError: there is no such regular file.
        """
        if not (self.folder / name).is_file():
            raise FileNotFoundError(f"{name} is not a file")
        return self.folder / name

    def add(self, problem: str, *, key: str = "", shard: str = "") -> None:
        """Records a problem."""
        self.problems.append(Problem(key=key, shard=shard, problem=problem))


def verify_named(store: Store, dataset: str) -> tuple[str, Verification]:
    """Finds a dataset version and verifies it.

    Args:
        store: store for bare names.
        dataset: any name ``open_dataset`` accepts.

    Returns:
        Name and version, and every problem found. If the manifest names files outside of its
        dataset, that is the only problem reported, and no file is opened.

    Raises:
        BadInput: the dataset does not exist.
    """
    try:
        opened = open_dataset(store, dataset)
    except UnsafeManifest as error:
        problem = Problem(key="", shard=MANIFEST, problem=str(error))
        return dataset, Verification(ok=False, samples=0, problems=(problem,))
    known = opened.manifest
    return f"{known.name}@{known.version}", verify_dataset(opened)


def verify_dataset(dataset: Dataset) -> Verification:
    """Verifies a whole dataset version.

    Args:
        dataset: an open dataset; a remote one is copied to a temporary folder first.

    Returns:
        Every problem found; problems of samples first.
    """
    with _local_folder(dataset) as folder:
        check = _VerificationState(folder, dataset.manifest)
        rows = _rows_by_shard(check)
        for shard in dataset.manifest.shards:
            if (folder / shard.file).is_file():
                _check_shard(check, shard, rows.get(shard.file))
        _check_whole(check)
        _check_files(check)
        readable = {file: read for file, read in check.read.items() if file not in check.unsafe}
        for shard, key, problem in cross_reader_problems(folder, dataset.manifest, readable):
            check.add(problem, key=key, shard=shard)
    problems = sorted(check.problems, key=lambda problem: not problem.key)
    samples = sum(len(samples) for samples in check.read.values())
    return Verification(ok=not problems, samples=samples, problems=tuple(problems))


@contextmanager
def _local_folder(dataset: Dataset) -> Generator[Path]:
    if dataset.store.is_local:
        yield dataset.local(MANIFEST).parent
        return
    with tempfile.TemporaryDirectory(prefix="iclora-verify-") as folder:
        known = dataset.manifest
        for name in (MANIFEST, *known.digests, *(shard.file for shard in known.shards)):
            if dataset.store.exists(dataset.path(name)):
                dataset.store.copy(dataset.path(name), Path(folder) / name)
        yield Path(folder)


def _rows_by_shard(check: _VerificationState) -> dict[str, dict[str, Row]]:
    """Reads ``samples.parquet`` as rows by shard and key; empty if it cannot be read."""
    rows: dict[str, dict[str, Row]] = {}
    try:
        for row in read_rows(check.file(SAMPLES)):
            rows.setdefault(row["shard"], {})[row["key"]] = row
    except _UNREADABLE as error:
        check.add(f"cannot be read: {error}", shard=SAMPLES)
        return {}
    expected = {shard.file: shard.samples for shard in check.manifest.shards}
    if {file: len(keys) for file, keys in rows.items()} != expected:
        check.add("does not list the samples that the manifest counts", shard=SAMPLES)
    return rows


def _check_shard(check: _VerificationState, shard: ShardEntry, rows: dict[str, Row] | None) -> None:
    found = check.read.setdefault(shard.file, [])
    missing = dict.fromkeys(rows or ())
    try:
        for read, broken in _read_shard(check.folder / shard.file):
            missing.pop(read.key, None)
            for problem in (*broken, *_sample_problems(check, shard, read, rows)):
                check.add(problem, key=read.key, shard=shard.file)
            if read.record is not None:
                image, text = read.members[read.extension], read.members["txt"]
                found.append(digest_sample(read.key, image, text, read.record))
    except (OSError, tarfile.ReadError) as error:
        if isinstance(error, UnsafeMember):
            check.unsafe.add(shard.file)
        check.add(f"the tar breaks off: {error}", key=next(iter(missing), ""), shard=shard.file)
    for key in missing:
        check.add("is missing from its shard", key=key, shard=shard.file)
    _check_shard_file(check, shard, len(found))


def _sample_problems(
    check: _VerificationState, shard: ShardEntry, read: ReadSample, rows: dict[str, Row] | None
) -> Iterator[str]:
    if read.record is not None:
        yield from sample_problems(read, check.manifest, shard.split)
        yield from _row_problems(read, shard, rows)


def _read_shard(path: Path) -> Iterator[tuple[ReadSample, list[str]]]:
    """Yields the samples of a tar with the problems of their members."""
    with path.open("rb") as file:
        for group in group_members(file):
            members, problems = dict[str, bytes](), list[str]()
            for member in group:
                problems += header_problems(member.info)
                if member.extension in members:
                    problems.append(f"has two members {member.extension}")
                members[member.extension] = member.data
                if list(members) != sorted(members):
                    problems.append("its members are not sorted")
            read, more = read_sample(group[0].key, members)
            yield read, problems + more


def _row_problems(
    read: ReadSample, shard: ShardEntry, rows: dict[str, Row] | None
) -> Iterator[str]:
    if rows is None:
        return
    assert read.record is not None
    row = rows.get(read.key)
    if row is None:
        yield f"is not listed in {SAMPLES}"
        return
    size = len(read.members[read.extension])
    own = sample_row(read.record, read.text, shard.file, size)
    differing = [name for name, value in row.items() if name not in own or own[name] != value]
    if differing:
        yield f"{SAMPLES} says something else of its {', '.join(sorted(differing))}"


def _check_shard_file(check: _VerificationState, shard: ShardEntry, samples: int) -> None:
    path = check.folder / shard.file
    if samples != shard.samples:
        check.add(f"holds {samples} samples, not {shard.samples}", shard=shard.file)
    if path.stat().st_size != shard.size:
        check.add(f"has {path.stat().st_size} bytes, not {shard.size}", shard=shard.file)
    if file_sha256(path) != shard.sha256:
        check.add("its sha256 is not the manifest's", shard=shard.file)
    with path.open("rb") as file:
        if hashlib.file_digest(file, _md5).hexdigest() != shard.md5:
            check.add("its md5 is not the manifest's", shard=shard.file)


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def _check_whole(check: _VerificationState) -> None:
    """Checks consistency across shards and with the manifest."""
    known = check.manifest
    places: dict[str, str] = {}
    for file, digests in check.read.items():
        for digest in digests:
            if digest.key in places:
                check.add(f"is also in {places[digest.key]}", key=digest.key, shard=file)
            places.setdefault(digest.key, file)
    parts = {INDEX, REJECTS, SAMPLES} <= known.digests.keys()
    if not parts or version_of(known) != known.version:
        check.add("its version is not the digest of its content", shard=MANIFEST)
    by_split = {
        split: sum(shard.samples for shard in known.shards if shard.split == split)
        for split in known.splits
    }
    if by_split != known.splits or sum(by_split.values()) != known.samples:
        check.add("its counts of samples do not add up", shard=MANIFEST)
    if not known.splits.get("train"):
        check.add("train is empty", shard=MANIFEST)
    if known.config.split.by == "source":
        for source in known.sources:
            if source.split == "both":
                check.add(f"source {source.name} is in train and val", shard=MANIFEST)
    _check_ledger(check)


def _check_ledger(check: _VerificationState) -> None:
    ledger = check.manifest.ledger
    if "shard" not in ledger or ledger["shard"].kept != check.manifest.samples:
        check.add("its ledger does not end with its samples", shard=MANIFEST)
    counted: dict[tuple[str, str], int] = {}
    try:
        for row in read_rows(check.file(REJECTS), ["stage", "outcome"]):
            place = (row["stage"], row["outcome"])
            counted[place] = counted.get(place, 0) + 1
    except _UNREADABLE as error:
        check.add(f"cannot be read: {error}", shard=REJECTS)
        return
    said = {
        (stage, outcome): count
        for stage, total in ledger.items()
        for outcome, count in (("rejected", total.rejected), ("failed", total.failed))
        if count
    }
    if counted != said:
        check.add("does not list what the ledger counts", shard=REJECTS)


def _check_files(check: _VerificationState) -> None:
    known = check.manifest
    for name, digest in known.digests.items():
        path = check.folder / name
        if not path.is_file():
            check.add("is missing", shard=name)
        elif file_sha256(path) != digest:
            check.add("its sha256 is not the manifest's", shard=name)
    for shard in known.shards:
        if not (check.folder / shard.file).is_file():
            check.add("is missing", shard=shard.file)
    expected = {MANIFEST, *known.digests, *(shard.file for shard in known.shards)}
    for path in sorted(check.folder.iterdir()):
        if path.name not in expected:
            check.add("does not belong to the dataset", shard=path.name)
    _check_index(check)


def _check_index(check: _VerificationState) -> None:
    try:
        index = json.loads(check.file(INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return  # a problem already
    except (OSError, ValueError, RecursionError):
        index = None
    if index != wids_index(check.manifest.shards):
        check.add("does not list the manifest's shards", shard=INDEX)
