"""Other people's readers, held against ours: webdataset and ``datasets``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, cast

from schemas.dataset import DatasetManifest
from schemas.sample import SampleRecord

Finding = tuple[str, str, str]
"""Shard, key, problem."""


class Digest(NamedTuple):
    """What must be the same for every reader of a sample."""

    key: str
    image: str
    """Sha256 of the canvas file."""

    text: str
    """Sha256 of the caption."""

    record: str
    """Fingerprint of the record."""


def digest_sample(key: str, image: bytes, text: bytes, record: SampleRecord) -> Digest:
    """The digest of one sample."""
    return Digest(
        key, hashlib.sha256(image).hexdigest(), hashlib.sha256(text).hexdigest(), record.fingerprint
    )


def foreign_problems(
    folder: Path, manifest: DatasetManifest, ours: Mapping[str, Sequence[Digest]]
) -> Iterator[Finding]:
    """Where webdataset or ``datasets`` read something else than we did.

    Args:
        folder: the version's, local.
        manifest: names the shards.
        ours: shard to what tarfile found in it.
    """
    for shard in manifest.shards:
        if shard.file in ours:
            read = _guarded(_by_webdataset(folder / shard.file))
            yield from _compared("webdataset", ours[shard.file], read, shard.file)
    for split, count in manifest.splits.items():
        if count:
            files = [shard.file for shard in manifest.shards if shard.split == split]
            expected = [digest for file in files for digest in ours.get(file, ())]
            read = _guarded(_by_datasets(folder, split))
            yield from _compared("datasets", expected, read, files[0])


def _compared(
    reader: str, ours: Sequence[Digest], theirs: Iterator[Digest | str], shard: str
) -> Iterator[Finding]:
    for mine, other in zip_longest(ours, theirs):
        if isinstance(other, str):
            yield shard, mine.key if mine else "", f"{reader} cannot read it: {other}"
            return
        if mine is None or other is None:
            key = mine.key if mine else cast("Digest", other).key
            yield shard, key, f"{reader} {'does not find it' if mine else 'finds it too'}"
            return
        if mine != other:
            names = [n for n, a, b in zip(Digest._fields, mine, other, strict=True) if a != b]
            yield shard, mine.key, f"{reader} reads another {', '.join(names)}"
            return


def _guarded(samples: Iterator[Digest]) -> Iterator[Digest | str]:
    """The samples, and the reader's own words if it gives up."""
    try:
        yield from samples
    except Exception as error:  # noqa: BLE001 - whatever they raise on a broken file is a finding
        yield f"{type(error).__name__}: {error}".splitlines()[0]


def _by_webdataset(path: Path) -> Iterator[Digest]:
    from webdataset.compat import WebDataset

    # A list is not searched for braces, as a string would be.
    for found in WebDataset([str(path)], shardshuffle=False, empty_check=False):
        sample = cast("dict[str, Any]", found)
        (extension,) = [name for name in sample if name in {"jpg", "png", "webp"}]
        record = SampleRecord.from_text(sample["json"])
        yield digest_sample(sample["__key__"], sample[extension], sample["txt"], record)


def _by_datasets(folder: Path, split: str) -> Iterator[Digest]:
    import datasets

    rows = datasets.load_dataset(str(folder), split=split, streaming=True)
    assert isinstance(rows, datasets.IterableDataset)
    assert rows.features is not None
    (image,) = [n for n, kind in rows.features.items() if isinstance(kind, datasets.Image)]
    for found in rows.cast_column(image, datasets.Image(decode=False)):
        row = cast("dict[str, Any]", found)
        record = SampleRecord.from_text(json.dumps(row["json"]))
        yield digest_sample(row["__key__"], row[image]["bytes"], row["txt"].encode(), record)
