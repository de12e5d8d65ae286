"""Cross-checks of a dataset against third-party readers: webdataset and ``datasets``.

``datasets`` opens any file or address that a card names. The card is therefore compared with the
one derived from the manifest, and the shards are read in a separate folder, beside a card written
by this module.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import yaml

from iclora.dataset.dataset_card import Node, card_data
from iclora.dataset.publish import CARD
from iclora.dataset.shard_writer import FORMATS
from schemas.dataset import DatasetManifest
from schemas.sample import SampleRecord

Finding = tuple[str, str, str]
"""Problem as (shard, key, text)."""


_READ = ("configs", "dataset_info")
"""Keys of a card that determine the files ``datasets`` opens, and their format."""

_LARGEST_CARD = 1 << 20


class SampleDigest(NamedTuple):
    """Digests of a sample that must be equal for every reader."""

    key: str
    image: str
    """Sha256 of the canvas file."""

    text: str
    """Sha256 of the caption."""

    record: str
    """Fingerprint of the record."""


def digest_sample(key: str, image: bytes, text: bytes, record: SampleRecord) -> SampleDigest:
    """Computes the digests of one sample."""
    return SampleDigest(
        key, hashlib.sha256(image).hexdigest(), hashlib.sha256(text).hexdigest(), record.fingerprint
    )


def cross_reader_problems(
    folder: Path, manifest: DatasetManifest, ours: Mapping[str, Sequence[SampleDigest]]
) -> Iterator[Finding]:
    """Yields differences between webdataset or ``datasets`` and this package's reader.

    Args:
        folder: local folder of the version.
        manifest: source of the shard names.
        ours: digests read by tarfile, by shard; other shards are not opened.
    """
    for shard in manifest.shards:
        if shard.file in ours:
            theirs = _guarded(_by_webdataset(folder / shard.file))
            yield from _compared("webdataset", ours[shard.file], theirs, shard.file)
    card = _card_of(folder, manifest)
    if card is None:
        yield CARD, "", "does not name the shards and their features as the manifest does"
        return
    files_of_split: dict[str, list[str]] = {}
    for shard in manifest.shards:
        if shard.file in ours:
            files_of_split.setdefault(shard.split, []).append(shard.file)
    (configuration,) = card["configs"]
    configuration["data_files"] = [
        item for item in configuration["data_files"] if item["split"] in files_of_split
    ]
    with TemporaryDirectory(prefix="iclora-verify-") as name:
        copy = Path(name)
        (copy / CARD).write_text(f"---\n{yaml.safe_dump(card)}---\n", encoding="utf-8")
        for file in ours:
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            (copy / file).symlink_to((folder / file).resolve())
        for split, files in files_of_split.items():
            expected = [digest for file in files for digest in ours[file]]
            theirs = _guarded(_by_datasets(copy, split))
            yield from _compared("datasets", expected, theirs, files[0])


def _card_of(folder: Path, manifest: DatasetManifest) -> Node | None:
    """Parses the card as ``datasets`` does; None if it differs from the manifest's."""
    path = folder / CARD
    if not path.is_file():
        return None
    with path.open("rb") as file:
        text = file.read(_LARGEST_CARD).decode(errors="replace")
    try:
        before, head, _ = text.split("---\n", maxsplit=2)
        head = yaml.safe_load(head if not before else "")
        read = {key: head[key] for key in _READ}
        (extension,) = {name["name"] for name in head["dataset_info"]["features"]} & set(FORMATS)
    except Exception:  # noqa: BLE001 - of YAML, of its depth, and of whatever is in it
        return None
    expected = card_data(manifest, extension)
    return read if read == {key: expected[key] for key in _READ} else None


def _compared(
    reader: str, ours: Sequence[SampleDigest], theirs: Iterator[SampleDigest | str], shard: str
) -> Iterator[Finding]:
    """Yields the first difference between two readers, if there is one."""
    for our, their in zip_longest(ours, theirs):
        if isinstance(their, str):
            yield shard, our.key if our else "", f"{reader} cannot read it: {their}"
        elif our is None:
            yield shard, their.key, f"{reader} finds it too"
        elif their is None:
            yield shard, our.key, f"{reader} does not find it"
        elif our != their:
            fields = zip(SampleDigest._fields, our, their, strict=True)
            names = [name for name, a, b in fields if a != b]
            yield shard, our.key, f"{reader} reads another {', '.join(names)}"
        else:
            continue
        return


def _guarded(samples: Iterator[SampleDigest]) -> Iterator[SampleDigest | str]:
    """Yields the samples, and the reader's error message if it fails."""
    try:
        yield from samples
    except Exception as error:  # noqa: BLE001 - whatever they raise on a broken file is a finding
        yield f"{type(error).__name__}: {error}".splitlines()[0]


def _by_webdataset(path: Path) -> Iterator[SampleDigest]:
    from webdataset.compat import WebDataset

    # A list is not searched for braces, as a string would be.
    for item in WebDataset([str(path)], shardshuffle=False, empty_check=False):
        sample = cast("dict[str, Any]", item)
        (extension,) = [name for name in sample if name in FORMATS]
        record = SampleRecord.from_text(sample["json"])
        yield digest_sample(sample["__key__"], sample[extension], sample["txt"], record)


def _by_datasets(folder: Path, split: str) -> Iterator[SampleDigest]:
    import datasets

    rows = datasets.load_dataset(str(folder), split=split, streaming=True)
    assert isinstance(rows, datasets.IterableDataset)
    assert rows.features is not None
    (image,) = [n for n, kind in rows.features.items() if isinstance(kind, datasets.Image)]
    for item in rows.cast_column(image, datasets.Image(decode=False)):
        row = cast("dict[str, Any]", item)
        record = SampleRecord.from_text(json.dumps(row["json"]))
        yield digest_sample(row["__key__"], row[image]["bytes"], row["txt"].encode(), record)
