"""Shard writer: deterministic tars, written atomically.

The format follows from how webdataset and ``datasets`` read a tar: members of a sample are
adjacent, keys have no dots and are unique, every sample has the same three members and its JSON the
same keys with no nulls and with floats written as floats, and no shard is empty. webdataset's own
writer is not used, because it leaves the header format, and with it long names, to tarfile's
default and opens a shard before its first sample.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from iclora.store import atomic_path
from schemas.dataset import ShardEntry
from schemas.sample import SampleRecord, Split
from schemas.sharding import ShardParams

MEMBER_MODE = 0o644
"""File mode of every member; times and owners are zero."""

_BLOCK = 1 << 20

FORMATS = ("jpg", "png", "webp")
"""Allowed canvas formats, which are the members' extensions."""


class Sample(NamedTuple):
    """Sample as stored in a tar."""

    record: SampleRecord
    text: str
    """Caption, one line."""

    image: bytes
    """Encoded canvas: JPEG, PNG or WebP."""

    extension: str
    """Extension: ``jpg``, ``png`` or ``webp``."""


def record_bytes(record: SampleRecord) -> bytes:
    """Serializes a sample's record: compact UTF-8 JSON, keys in schema order, scores sorted."""
    value = record.to_json()
    value["scores"] = {name: float(value["scores"][name]) for name in sorted(value["scores"])}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def read_record(data: bytes) -> SampleRecord:
    """Parses a sample's record from its JSON member."""
    return SampleRecord.from_text(data)


def header(name: str, size: int) -> bytes:
    """Builds the 512-byte header of a member: USTAR, time 0, no owner, mode 0644.

    Raises:
        ValueError: the name does not fit USTAR (100 bytes); keys are shorter than that.
    """
    called = name.encode()
    if len(called) > tarfile.LENGTH_NAME or size >= _LARGEST:
        raise ValueError(f"{name} of {size} bytes does not fit a USTAR header")
    block = bytearray(_BLANK)
    block[: len(called)] = called
    block[124:135] = b"%011o" % size
    block[148:156] = b"%06o\0 " % (_BLANK_SUM + sum(called) + sum(block[124:135]))
    return bytes(block)


def _blank() -> bytes:
    """Builds a header with empty name and size, and a checksum field of blanks."""
    info = tarfile.TarInfo()
    info.mode = MEMBER_MODE
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:135] = bytes(11)
    block[148:156] = b" " * 8
    return bytes(block)


_BLANK = _blank()
_BLANK_SUM = sum(_BLANK)
_LARGEST = 8 << 30


class ShardFile:
    """Tar file being written, hashed on the fly.

    The md5 (required by the wids index) is computed on a second thread, one block behind, while
    this thread computes the sha256 and writes the block; all three release the GIL. Blocks are a
    mebibyte or more, because smaller ones cost more to transfer than they save.
    """

    def __init__(self, file: BinaryIO, helper: ThreadPoolExecutor) -> None:
        self._file, self._helper = file, helper
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self._behind: Future[None] | None = None
        self._waiting: list[bytes] = []
        self._waits = 0
        self.size = 0
        self.samples = 0

    def add(self, members: Iterable[tuple[str, bytes]]) -> None:
        """Appends one sample's members, in the given order."""
        for name, data in members:
            self._put(header(name, len(data)), data, bytes(-len(data) % tarfile.BLOCKSIZE))
        self.samples += 1

    def close(self, file: str, split: Split) -> ShardEntry:
        """Ends the tar (two empty blocks, padded to a record) and returns its entry."""
        end = 2 * tarfile.BLOCKSIZE
        self._put(bytes(end + -(self.size + end) % tarfile.RECORDSIZE))
        self._hand_over()
        self._catch_up()
        return ShardEntry(
            file=file,
            split=split,
            samples=self.samples,
            size=self.size,
            sha256=self._sha256.hexdigest(),
            md5=self._md5.hexdigest(),
        )

    def _put(self, *pieces: bytes) -> None:
        size = sum(map(len, pieces))
        self._waiting += pieces
        self._waits += size
        self.size += size
        if self._waits >= _BLOCK:
            self._hand_over()

    def _hand_over(self) -> None:
        block = b"".join(self._waiting)
        self._waiting, self._waits = [], 0
        self._catch_up()
        self._behind = self._helper.submit(self._md5.update, block)
        self._sha256.update(block)
        self._file.write(block)

    def _catch_up(self) -> None:
        """Waits for the last block's md5, so that only one block is buffered."""
        if self._behind is not None:
            self._behind.result()


def members_of(sample: Sample) -> list[tuple[str, bytes]]:
    """Returns a sample's three members, sorted by name."""
    key = sample.record.key
    assert sample.extension in FORMATS, sample.extension
    assert "\n" not in sample.text, f"{key}: a caption is one line"
    return sorted(
        [
            (f"{key}.{sample.extension}", sample.image),
            (f"{key}.json", record_bytes(sample.record)),
            (f"{key}.txt", sample.text.encode()),
        ]
    )


def size_in_tar(members: Iterable[tuple[str, bytes]]) -> int:
    """Computes the bytes of members in a tar, including headers and padding."""
    blocks = sum(1 + -(-len(data) // tarfile.BLOCKSIZE) for _, data in members)
    return blocks * tarfile.BLOCKSIZE


def write_shards(
    samples: Iterable[Sample], folder: Path, split: Split, params: ShardParams
) -> tuple[ShardEntry, ...]:
    """Writes ``<split>-000000.tar`` and following, as many as needed; none for no samples.

    Args:
        samples: samples of one split, sorted by key.
        folder: output folder.
        split: ``train`` or ``val``.
        params: limits at which a shard is full.

    Returns:
        One entry per shard, in order.
    """
    return tuple(_shards(iter(samples), folder, split, params))


def _shards(
    samples: Iterator[Sample], folder: Path, split: Split, params: ShardParams
) -> Iterator[ShardEntry]:
    last_key = ""
    with ThreadPoolExecutor(1, "iclora-md5") as helper, ExitStack() as open_shard:
        shard: ShardFile | None = None
        number = 0
        for sample in samples:
            assert sample.record.key > last_key, f"{sample.record.key} is out of order or twice"
            last_key = sample.record.key
            members = members_of(sample)
            if shard is not None and _is_full(shard, size_in_tar(members), params):
                yield shard.close(_name(split, number), split)
                open_shard.close()
                shard, number = None, number + 1
            if shard is None:
                scratch = open_shard.enter_context(atomic_path(folder / _name(split, number)))
                shard = ShardFile(open_shard.enter_context(scratch.open("wb")), helper)
            shard.add(members)
        if shard is not None:
            yield shard.close(_name(split, number), split)


def _is_full(shard: ShardFile, size: int, params: ShardParams) -> bool:
    return shard.samples >= params.samples_per_shard or shard.size + size > params.bytes_per_shard


def _name(split: Split, number: int) -> str:
    return f"{split}-{number:06d}.tar"


def wids_index(shards: Iterable[ShardEntry]) -> dict[str, Any]:
    """Builds ``index.json``: the shard list of the wids library (format v1)."""
    return {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "shardlist": [
            {"url": s.file, "md5sum": s.md5, "nsamples": s.samples, "filesize": s.size}
            for s in shards
        ],
    }
