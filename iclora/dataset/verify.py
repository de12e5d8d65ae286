"""Verification of a dataset version by reading it back with several readers.

Three readers read every shard: the standard library's tarfile (for this package's checks),
webdataset and ``datasets``. The last two must find the same samples with the same bytes, so samples
they silently drop, merge or truncate are problems. Problems of samples come first, in shard order,
so the first problem names the first broken sample.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image
from pydantic import ValidationError

from iclora.dataset.cross_readers import SampleDigest, cross_reader_problems, digest_sample
from iclora.dataset.publish import INDEX, REJECTS, SAMPLES, version_of
from iclora.dataset.reader import (
    Dataset,
    Member,
    UnsafeManifest,
    UnsafeMember,
    group_members,
    open_dataset,
)
from iclora.dataset.shard_writer import (
    FORMATS,
    MEMBER_MODE,
    Sample,
    file_md5,
    record_bytes,
    wids_index,
)
from iclora.dataset.tables import read_rows, sample_row
from iclora.errors import BROKEN_PICTURE
from iclora.store import MANIFEST, Store, file_sha256
from schemas.base import Box
from schemas.caption import Caption
from schemas.dataset import DatasetManifest, Problem, ShardEntry, Verification
from schemas.sample import SampleRecord

Row = dict[str, Any]

_UNREADABLE = (OSError, ValueError, LookupError, TypeError, pa.ArrowException)
"""Exceptions raised for a damaged table; invalid UTF-8 raises ValueError."""

_FORMAT_OF = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*")


class _VerificationState:
    """State of one verification."""

    def __init__(self, folder: Path, manifest: DatasetManifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.problems: list[Problem] = []
        self.digests: dict[str, list[SampleDigest]] = {}
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
    return f"{opened.ref.name}@{opened.ref.version}", verify_dataset(opened)


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
        _check_manifest(check, dataset)
        _check_whole(check)
        _check_files(check)
        readable = {
            file: digests for file, digests in check.digests.items() if file not in check.unsafe
        }
        for shard, key, problem in cross_reader_problems(folder, dataset.manifest, readable):
            check.add(problem, key=key, shard=shard)
    problems = sorted(check.problems, key=lambda problem: not problem.key)
    samples = sum(len(samples) for samples in check.digests.values())
    return Verification(ok=not problems, samples=samples, problems=tuple(problems))


@contextmanager
def _local_folder(dataset: Dataset) -> Generator[Path]:
    if dataset.store.is_local:
        yield dataset.local(MANIFEST).parent
        return
    with tempfile.TemporaryDirectory(prefix="iclora-verify-") as folder:
        manifest = dataset.manifest
        shards = [shard.file for shard in manifest.shards]
        for name in (MANIFEST, *manifest.digests, *shards):
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
    """Checks a shard's samples and its file.

    Args:
        check: receives the problems and the digests of the samples.
        shard: entry of the manifest.
        rows: the shard's rows of ``samples.parquet`` by key; None if there are none.
    """
    digests = check.digests.setdefault(shard.file, [])
    missing = dict.fromkeys(rows or ())
    path = check.folder / shard.file
    try:
        with path.open("rb") as file:
            for group in group_members(file):
                key = group[0].key
                members = {member.extension: member.data for member in group}
                missing.pop(key, None)
                problems = list(_member_problems(group))
                sample = _parse_sample(key, members)
                if isinstance(sample, Sample):
                    problems += _record_problems(key, members["json"], sample, shard)
                    problems += _canvas_problems(sample)
                    problems += _caption_problems(sample)
                    problems += _panel_problems(sample.record, check.manifest)
                    problems += _manifest_problems(sample.record, check.manifest)
                    if rows is not None:
                        problems += _row_problems(key, sample, shard, rows)
                    text = members["txt"]
                    digests.append(digest_sample(key, sample.image, text, sample.record))
                else:
                    problems.append(sample)
                for problem in problems:
                    check.add(problem, key=key, shard=shard.file)
    except (OSError, tarfile.ReadError) as error:
        if isinstance(error, UnsafeMember):
            check.unsafe.add(shard.file)
        check.add(f"the tar breaks off: {error}", key=next(iter(missing), ""), shard=shard.file)
    for key in missing:
        check.add("is missing from its shard", key=key, shard=shard.file)

    if len(digests) != shard.samples:
        check.add(f"holds {len(digests)} samples, not {shard.samples}", shard=shard.file)
    if path.stat().st_size != shard.size:
        check.add(f"has {path.stat().st_size} bytes, not {shard.size}", shard=shard.file)
    if file_sha256(path) != shard.sha256:
        check.add("its sha256 is not the manifest's", shard=shard.file)
    if file_md5(path) != shard.md5:
        check.add("its md5 is not the manifest's", shard=shard.file)


def _member_problems(group: list[Member]) -> Iterator[str]:
    extensions: list[str] = []
    for member in group:
        info = member.info
        if not info.isreg():
            yield f"{info.name} is not a plain file"
        has_owner = info.uid or info.gid or info.uname or info.gname
        if info.mtime or has_owner or info.mode != MEMBER_MODE:
            yield f"{info.name} has a time, an owner or a mode of its own"
        if member.extension in extensions:
            yield f"has two members {member.extension}"
        extensions.append(member.extension)
    if extensions != sorted(extensions):
        yield "its members are not sorted"


def _parse_sample(key: str, members: Mapping[str, bytes]) -> Sample | str:
    """Parses a sample's members; returns the problem if they cannot be parsed."""
    if not _KEY.fullmatch(key):
        return f"{key!r} is not a key"
    images = [extension for extension in members if extension in FORMATS]
    if len(images) != 1 or set(members) != {images[0], "json", "txt"}:
        return f"has the members {', '.join(sorted(members))}, not a canvas, json and txt"
    try:
        return Sample(
            record=SampleRecord.from_text(members["json"]),
            text=members["txt"].decode(),
            image=members[images[0]],
            extension=images[0],
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        return f"its json is not a sample's: {field}: {first['msg']}"
    except UnicodeDecodeError:
        return "its caption is not UTF-8"


def _record_problems(key: str, data: bytes, sample: Sample, shard: ShardEntry) -> Iterator[str]:
    record = sample.record
    if record.key != key:
        yield f"its json says it is {record.key}"
    if record_bytes(record) != data:
        yield "its json is not written as it should be (key order, numbers, spaces)"
    if record.split != shard.split:
        yield f"says it is in {record.split}, but lies in a shard of {shard.split}"


def _canvas_problems(sample: Sample) -> Iterator[str]:
    record = sample.record
    digest = hashlib.sha256(sample.image).hexdigest()
    if digest != record.image_sha256:
        yield "image_sha256 is not the sha256 of its canvas"
    if digest != record.caption.image_sha256:
        yield "caption.image_sha256 is not the sha256 of its canvas: the caption is of another"
    try:
        with Image.open(io.BytesIO(sample.image)) as canvas:
            size, kind = canvas.size, canvas.format
            if size == (record.width, record.height):
                canvas.load()
    except (*BROKEN_PICTURE, Image.DecompressionBombError) as error:
        yield f"its canvas cannot be decoded: {error}"
        return
    if kind != _FORMAT_OF[sample.extension]:
        yield f"its canvas is {kind}, not {sample.extension}"
    if size != (record.width, record.height):
        yield f"its canvas is {size[0]}x{size[1]}, its json says {record.width}x{record.height}"


def _caption_problems(sample: Sample) -> Iterator[str]:
    caption, panels = sample.record.caption, sample.record.panels
    structured = Caption(
        prefix=caption.prefix,
        summary=caption.summary,
        parts=tuple(panel.caption for panel in panels),
        roles=caption.roles,
        captioner=caption.captioner,
    )
    if sample.text != structured.text(tuple(panel.marker for panel in panels)):
        yield "its txt and the caption in its json differ"
    if not sample.text.strip() or "\n" in sample.text:
        yield "its caption is not one line of text"
    missing = [role for role in caption.roles if f"<{role}>" not in sample.text]
    if missing:
        yield f"its role {missing[0]!r} is not in its caption"


def _panel_problems(record: SampleRecord, manifest: DatasetManifest) -> Iterator[str]:
    layout = manifest.config.layout
    boxes = tuple(panel.box for panel in record.panels)
    size = (record.width, record.height)
    if record.layout != layout.name or size != (layout.width, layout.height):
        yield f"its layout is {record.layout}, {record.width}x{record.height}: not the dataset's"
    if boxes != layout.boxes:
        wrong = next((i for i, box in enumerate(boxes) if box not in layout.boxes), len(boxes))
        yield f"its panel boxes are not the layout's, first that of panel {wrong + 1}"
    if tuple(panel.marker for panel in record.panels) != layout.markers:
        yield "its markers are not the layout's"
    for number, panel in enumerate(record.panels, 1):
        if not _is_box(panel.source_box):
            yield f"source_box of panel {number} is empty"
        if not _SHA256.fullmatch(panel.sha256):
            yield f"sha256 of panel {number} is not one"
    for box in record.masks:
        if not _is_box(box) or box[2] > record.width or box[3] > record.height:
            yield f"mask {list(box)} is not inside its canvas"


def _is_box(box: Box) -> bool:
    """Checks that a box is not empty and has no negative coordinates."""
    return 0 <= box[0] < box[2] and 0 <= box[1] < box[3]


def _manifest_problems(record: SampleRecord, manifest: DatasetManifest) -> Iterator[str]:
    if tuple(sorted(record.scores)) != manifest.scores:
        yield "its scores are not those that every sample of the dataset has"
    licences = {source.name: source.rights.licence for source in manifest.sources}
    for name in {panel.source for panel in record.panels}:
        if name not in licences:
            yield f"its source {name} is not among the dataset's"
        elif licences[name] != record.licence:
            yield f"its licence is {record.licence}, its source's is {licences[name]}"


def _row_problems(
    key: str, sample: Sample, shard: ShardEntry, rows: Mapping[str, Row]
) -> Iterator[str]:
    row = rows.get(key)
    if row is None:
        yield f"is not listed in {SAMPLES}"
        return
    own = sample_row(sample.record, sample.text, shard.file, len(sample.image))
    differing = [name for name, value in row.items() if name not in own or own[name] != value]
    if differing:
        yield f"{SAMPLES} says something else of its {', '.join(sorted(differing))}"


def _check_manifest(check: _VerificationState, dataset: Dataset) -> None:
    """Checks that the manifest is written as it should be, and is in the folder that it names.

    Parsing is lenient: of two equal keys, the last counts.
    """
    manifest = check.manifest
    data = check.file(MANIFEST).read_bytes()
    # As ``to_text`` writes it, without the fields that the manifest of an older iclora lacks.
    canonical = json.dumps(json.loads(data), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if data != canonical.encode():
        check.add(
            "is not written as it should be (key order, keys twice, spaces, line ends)",
            shard=MANIFEST,
        )
    *_, parent, name, version = f"//{dataset.url}".split("/")
    if parent == "datasets" and (manifest.name, manifest.version) != (name, version):  # in a store
        actual = f"{manifest.name}@{manifest.version}"
        check.add(f"says it is {actual}, but its folder is {name}/{version}", shard=MANIFEST)


def _check_whole(check: _VerificationState) -> None:
    """Checks consistency across shards and with the manifest."""
    manifest = check.manifest
    shard_of_key: dict[str, str] = {}
    for file, digests in check.digests.items():
        for digest in digests:
            if digest.key in shard_of_key:
                check.add(f"is also in {shard_of_key[digest.key]}", key=digest.key, shard=file)
            shard_of_key.setdefault(digest.key, file)
    parts = {INDEX, REJECTS, SAMPLES} <= manifest.digests.keys()
    if not parts or version_of(manifest) != manifest.version:
        check.add("its version is not the digest of its content", shard=MANIFEST)
    by_split = {
        split: sum(shard.samples for shard in manifest.shards if shard.split == split)
        for split in manifest.splits
    }
    if by_split != manifest.splits or sum(by_split.values()) != manifest.samples:
        check.add("its counts of samples do not add up", shard=MANIFEST)
    if not manifest.splits.get("train"):
        check.add("train is empty", shard=MANIFEST)
    if manifest.config.split.by == "source":
        for source in manifest.sources:
            if source.split == "both":
                check.add(f"source {source.name} is in train and val", shard=MANIFEST)
    _check_ledger(check)


def _check_ledger(check: _VerificationState) -> None:
    ledger = check.manifest.ledger
    if "shard" not in ledger or ledger["shard"].kept != check.manifest.samples:
        check.add("its ledger does not end with its samples", shard=MANIFEST)
    try:
        rows = read_rows(check.file(REJECTS), ["stage", "outcome"])
        listed = Counter((row["stage"], row["outcome"]) for row in rows)
    except _UNREADABLE as error:
        check.add(f"cannot be read: {error}", shard=REJECTS)
        return
    counted = {
        (stage, outcome): count
        for stage, total in ledger.items()
        for outcome, count in (("rejected", total.rejected), ("failed", total.failed))
        if count
    }
    if listed != counted:
        check.add("does not list what the ledger counts", shard=REJECTS)


def _check_files(check: _VerificationState) -> None:
    manifest = check.manifest
    for name, digest in manifest.digests.items():
        path = check.folder / name
        if not path.is_file():
            check.add("is missing", shard=name)
        elif file_sha256(path) != digest:
            check.add("its sha256 is not the manifest's", shard=name)
    for shard in manifest.shards:
        if not (check.folder / shard.file).is_file():
            check.add("is missing", shard=shard.file)
    expected = {MANIFEST, *manifest.digests, *(shard.file for shard in manifest.shards)}
    for path in sorted(check.folder.iterdir()):
        if path.name not in expected:
            check.add("does not belong to the dataset", shard=path.name)
    try:
        index = json.loads(check.file(INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return  # a problem already
    except (OSError, ValueError, RecursionError):
        index = None
    if index != wids_index(manifest.shards):
        check.add("does not list the manifest's shards", shard=INDEX)
