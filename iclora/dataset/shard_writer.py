"""Shard writer: deterministic tars, written atomically.

The format follows from how webdataset and ``datasets`` read a tar: members of a sample are
adjacent, keys have no dots and are unique, every sample has the same three members and its JSON the
same keys with no nulls and with floats written as floats, and no shard is empty. webdataset's own
writer is not used, because it leaves the header format, and with it long names, to tarfile's
default and opens a shard before its first sample.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from iclora.store import atomic_path, file_sha256
from schemas.dataset import ShardEntry
from schemas.sample import SampleRecord, Split
from schemas.sharding import ShardParams

MEMBER_MODE = 0o644
"""File mode of every member; times and owners are zero."""

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


def write_shards(
    samples: Iterable[Sample], folder: Path, split: Split, params: ShardParams
) -> tuple[ShardEntry, ...]:
    """Writes ``<split>-000000.tar`` and following, as many as needed; none for no samples.

    Args:
        samples: samples of one split, sorted by key; one is in memory at a time.
        folder: output folder.
        split: ``train`` or ``val``.
        params: limits at which a shard is full.

    Returns:
        One entry per shard, in order.
    """
    remaining = iter(samples)
    sample = next(remaining, None)
    shards: list[ShardEntry] = []
    last_key = ""
    while sample is not None:
        name = f"{split}-{len(shards):06d}.tar"
        with atomic_path(folder / name) as scratch:
            count = 0
            with tarfile.open(scratch, "w", format=tarfile.USTAR_FORMAT) as tar:
                while sample is not None:
                    members = members_of(sample)
                    if count and (
                        count >= params.samples_per_shard
                        or tar.offset + _size_in_tar(members) > params.bytes_per_shard
                    ):
                        break
                    key = sample.record.key
                    assert key > last_key, f"{key} is out of order or twice"
                    for member, data in members:
                        info = tarfile.TarInfo(member)
                        info.size, info.mode = len(data), MEMBER_MODE
                        tar.addfile(info, io.BytesIO(data))
                    last_key, count = key, count + 1
                    sample = next(remaining, None)
            entry = ShardEntry(
                file=name,
                split=split,
                samples=count,
                size=scratch.stat().st_size,
                sha256=file_sha256(scratch),
                md5=file_md5(scratch),
            )
        shards.append(entry)
    return tuple(shards)


def _size_in_tar(members: Iterable[tuple[str, bytes]]) -> int:
    """Computes the bytes of members in a tar, including headers and padding."""
    blocks = sum(1 + -(-len(data) // tarfile.BLOCKSIZE) for _, data in members)
    return blocks * tarfile.BLOCKSIZE


def file_md5(path: Path) -> str:
    """Computes a file's md5 in hex, which the wids index asks for."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()


def wids_index(shards: Iterable[ShardEntry]) -> dict[str, Any]:
    """Builds ``index.json``: the shard list of the wids library (format v1)."""
    return {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "shardlist": [
            {
                "url": shard.file,
                "md5sum": shard.md5,
                "nsamples": shard.samples,
                "filesize": shard.size,
            }
            for shard in shards
        ],
    }
