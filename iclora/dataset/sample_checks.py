"""Checks of one sample as stored in its shard."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from PIL import Image
from pydantic import ValidationError

from iclora.dataset.shard_writer import FORMATS, MEMBER_MODE, record_bytes
from iclora.errors import BROKEN_PICTURE
from schemas.base import Box
from schemas.caption import Caption
from schemas.dataset import DatasetManifest
from schemas.sample import SampleRecord, Split

_FORMAT_OF = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]*")


class ReadSample(NamedTuple):
    """Sample as read: raw members and, if valid, its record."""

    key: str
    members: Mapping[str, bytes]
    record: SampleRecord | None = None
    extension: str = ""
    text: str = ""


def header_problems(info: tarfile.TarInfo) -> Iterator[str]:
    """Yields the problems of a member's header."""
    if not info.isreg():
        yield f"{info.name} is not a plain file"
    if info.mtime or info.uid or info.gid or info.uname or info.gname or info.mode != MEMBER_MODE:
        yield f"{info.name} has a time, an owner or a mode of its own"


def read_sample(key: str, members: Mapping[str, bytes]) -> tuple[ReadSample, list[str]]:
    """Parses a sample's members; returns the sample and the problems that prevent parsing."""
    bare = ReadSample(key, members)
    if not _KEY.fullmatch(key):
        return bare, [f"{key!r} is not a key"]
    images = [extension for extension in members if extension in FORMATS]
    if len(images) != 1 or set(members) != {images[0], "json", "txt"}:
        return bare, [f"has the members {', '.join(sorted(members))}, not a canvas, json and txt"]
    try:
        record = SampleRecord.from_text(members["json"])
        text = members["txt"].decode()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return bare, [f"its json is not a sample's: {where}: {first['msg']}"]
    except UnicodeDecodeError:
        return bare, ["its caption is not UTF-8"]
    return ReadSample(key, members, record, images[0], text), []


def sample_problems(read: ReadSample, manifest: DatasetManifest, split: Split) -> Iterator[str]:
    """Yields the problems of a readable sample."""
    record = read.record
    assert record is not None
    if record.key != read.key:
        yield f"its json says it is {record.key}"
    if record_bytes(record) != read.members["json"]:
        yield "its json is not written as it should be (key order, numbers, spaces)"
    yield from _picture_problems(read, record)
    yield from _caption_problems(read, record)
    yield from _panel_problems(record, manifest)
    yield from _split_problems(record, manifest, split)


def _picture_problems(read: ReadSample, record: SampleRecord) -> Iterator[str]:
    image = read.members[read.extension]
    digest = hashlib.sha256(image).hexdigest()
    if digest != record.image_sha256:
        yield "image_sha256 is not the sha256 of its canvas"
    if digest != record.caption.image_sha256:
        yield "caption.image_sha256 is not the sha256 of its canvas: the caption is of another"
    try:
        with Image.open(io.BytesIO(image)) as canvas:
            size, kind = canvas.size, canvas.format
            if size == (record.width, record.height):
                canvas.load()
    except (*BROKEN_PICTURE, Image.DecompressionBombError) as error:
        yield f"its canvas cannot be decoded: {error}"
        return
    if kind != _FORMAT_OF[read.extension]:
        yield f"its canvas is {kind}, not {read.extension}"
    if size != (record.width, record.height):
        yield f"its canvas is {size[0]}x{size[1]}, its json says {record.width}x{record.height}"


def _caption_problems(read: ReadSample, record: SampleRecord) -> Iterator[str]:
    said = record.caption
    structured = Caption(
        prefix=said.prefix,
        summary=said.summary,
        parts=tuple(panel.caption for panel in record.panels),
        roles=said.roles,
        captioner=said.captioner,
    )
    if read.text != structured.text(tuple(panel.marker for panel in record.panels)):
        yield "its txt and the caption in its json differ"
    if not read.text.strip() or "\n" in read.text:
        yield "its caption is not one line of text"
    missing = [role for role in said.roles if f"<{role}>" not in read.text]
    if missing:
        yield f"its role {missing[0]!r} is not in its caption"


def _panel_problems(record: SampleRecord, manifest: DatasetManifest) -> Iterator[str]:
    layout = manifest.config.layout
    canvas = (0, 0, record.width, record.height)
    boxes = tuple(panel.box for panel in record.panels)
    if record.layout != layout.name or canvas != (0, 0, layout.width, layout.height):
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
        if not _is_box(box) or not _is_inside(box, canvas):
            yield f"mask {list(box)} is not inside its canvas"


def _split_problems(record: SampleRecord, manifest: DatasetManifest, split: Split) -> Iterator[str]:
    if record.split != split:
        yield f"says it is in {record.split}, but lies in a shard of {split}"
    if tuple(sorted(record.scores)) != manifest.scores:
        yield "its scores are not those that every sample of the dataset has"
    rights = {source.name: source.rights.licence for source in manifest.sources}
    for name in {panel.source for panel in record.panels}:
        if name not in rights:
            yield f"its source {name} is not among the dataset's"
        elif rights[name] != record.licence:
            yield f"its licence is {record.licence}, its source's is {rights[name]}"


def _is_box(box: Box) -> bool:
    return 0 <= box[0] < box[2] and 0 <= box[1] < box[3]


def _is_inside(box: Box, other: Box) -> bool:
    return box[0] >= other[0] and box[1] >= other[1] and box[2] <= other[2] and box[3] <= other[3]
