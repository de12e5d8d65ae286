"""Picture reader: stores picture files as upright 8-bit sRGB frames.

Files that already are upright 8-bit sRGB are hardlinked, which preserves their bytes. All others
(EXIF rotation, CMYK, 16 bits, transparency, another color profile, an unusual format) are converted
to PNG.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps

from iclora.cpus import available_cpus
from iclora.errors import BROKEN_PICTURE
from iclora.ingest.download import known_sha256
from iclora.ingest.result import FRAMES, IngestContext, IngestResult, UnreadableInput
from iclora.store import file_sha256
from schemas.base import DIGEST_LENGTH
from schemas.frame import Frame
from schemas.ingest import IngestParams
from schemas.verdict import Verdict

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
"""Formats that Pillow may decode; none of them spawns an external program."""

_PLAIN_FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_CHECK_SIDE = 1
"""Target side for the integrity check of a JPEG, in pixels. The decoder falls back to its smallest
scale, 1/8 in grayscale, which reads all bytes but reconstructs few pixels."""

_ORIENTATION = 0x0112

_MAX_CONCURRENT = 64
"""Maximum number of pictures per concurrent batch; only a few are in memory at a time."""


class StoredPicture(NamedTuple):
    """A picture in the store, with its sha256 and its size in pixels."""

    file: Path
    content: str
    width: int
    height: int


def open_picture(file: Path, max_pixels: int) -> Image.Image:
    """Opens a picture without decoding it.

    Raises:
        UnreadableInput: The file is not a picture or has too many pixels.
    """
    name = file.name
    try:
        if not file.stat().st_size:
            raise UnreadableInput("empty_file", f"{name} is empty")
        image = Image.open(file, formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableInput(
            "too_many_pixels", f"{name} has more than {max_pixels} pixels", -1, max_pixels
        ) from error
    except BROKEN_PICTURE as error:
        reason = "unreadable" if isinstance(error, PermissionError) else "not_a_picture"
        raise UnreadableInput(reason, f"{name} cannot be read as a picture") from error
    pixels = image.width * image.height
    if pixels > max_pixels:
        image.close()
        raise UnreadableInput(
            "too_many_pixels",
            f"{name} is {image.width} x {image.height}, more than {max_pixels} pixels",
            pixels,
            max_pixels,
        )
    return image


def store_picture(
    file: Path, folder: Path, stem: str, max_pixels: int, content: str = ""
) -> StoredPicture:
    """Stores a picture as upright 8-bit sRGB after checking that it decodes completely.

    Args:
        file: Picture to store.
        folder: Destination folder.
        stem: Destination file name without suffix.
        max_pixels: Maximum number of pixels.
        content: The sha256 of the file, or empty if unknown.

    Raises:
        UnreadableInput: The picture cannot be decoded or is too large.
    """
    with open_picture(file, max_pixels) as image:
        suffix = _PLAIN_FORMATS.get(image.format or "", "")
        try:
            if suffix and _is_plain(image):
                width, height = image.size
                image.draft("L", (_CHECK_SIDE, _CHECK_SIDE))
                image.load()
                target = folder / f"{stem}{suffix}"
                try:
                    os.link(file.resolve() if file.is_symlink() else file, target)
                except OSError:  # another disk, or a file system without links
                    shutil.copyfile(file, target)
                return StoredPicture(target, content or file_sha256(target), width, height)
            upright = upright_rgb(image)
            width, height = upright.size
            target = folder / f"{stem}.png"
            packed = io.BytesIO()
            upright.save(packed, "PNG", compress_level=1)
            target.write_bytes(packed.getbuffer())  # unlike Pillow, reports why a write fails
        except BROKEN_PICTURE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # a full disk is not the picture's fault
            raise UnreadableInput("undecodable", f"{file.name} is broken: {error}") from error
    return StoredPicture(target, file_sha256(target), width, height)


def _is_plain(image: Image.Image) -> bool:
    turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    profile = image.info.get("icc_profile")
    return (
        image.mode in ("RGB", "L")
        and not turned
        and "transparency" not in image.info
        and getattr(image, "n_frames", 1) == 1
        and (not profile or _is_srgb(profile))
    )


def _is_srgb(profile: bytes) -> bool:
    try:
        described = ImageCms.getProfileDescription(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError):
        return True  # a broken profile is ignored, as viewers do
    return "srgb" in described.lower() or "gray" in described.lower()


def upright_rgb(image: Image.Image) -> Image.Image:
    """Decodes a picture of any mode to upright 8-bit sRGB; transparent parts become white."""
    image.seek(0)
    profile = image.info.get("icc_profile")
    turned = ImageOps.exif_transpose(image)
    if turned.mode in ("I;16", "I;16B", "I;16L", "I", "F"):  # 16-bit gray, or floats in [0, 1]
        values = np.asarray(turned).astype(np.float64)
        top = 1.0 if turned.mode == "F" and values.max(initial=0) <= 1 else 65535.0
        gray = np.clip(np.round(values / top * 255), 0, 255).astype(np.uint8)
        return Image.fromarray(gray).convert("RGB")
    if turned.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in turned.info:
        clear = turned.convert("RGBA")
        white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
        turned = Image.alpha_composite(white, clear).convert("RGB")
    if profile and turned.mode in ("RGB", "CMYK") and not _is_srgb(profile):
        try:
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(
                turned, io.BytesIO(profile), srgb, outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            return turned.convert("RGB")
        assert converted is not None, "not in place"
        return converted
    return turned.convert("RGB")


def scene_of(name: str, params: IngestParams) -> str:
    """Returns the scene of a picture: the group matched by the scene pattern, else its folder.

    Args:
        name: Path relative to the source, with forward slashes.
        params: Ingest parameters; uses ``scene_pattern``.
    """
    if params.scene_pattern:
        match = re.search(params.scene_pattern, name)
        return (match.group(1) or "") if match else ""
    parent = PurePosixPath(name).parent.as_posix()
    return "" if parent == "." else parent


def read_pictures(context: IngestContext, files: Iterable[tuple[str, str, Path]]) -> IngestResult:
    """Stores pictures and creates one frame per picture.

    Args:
        context: Parameters and output folder.
        files: Tuples of (name relative to the source, scene, file), in order. A sequence is read
            concurrently; any other iterable is read one file at a time, because it may delete a
            file when the next one is requested.

    Returns:
        Frames in order, and one verdict per picture. Duplicate pictures are rejected.
    """
    threads = available_cpus() if isinstance(files, Sequence) else 1
    batch_size = _MAX_CONCURRENT if threads > 1 else 1
    remaining = iter(files)
    frames: list[Frame] = []
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(threads, "iclora-pictures") as pool:
        while batch := list(islice(remaining, batch_size)):
            for item in _read_batch(context, batch, pool):
                if isinstance(item, Frame):
                    frames.append(item)
                    verdicts.append(context.kept(item.id))
                else:
                    verdicts.append(item)
            if isinstance(files, Sequence):
                context.report(len(verdicts) / len(files))
    return IngestResult(tuple(frames), (), tuple(verdicts))


def _read_batch(
    context: IngestContext, files: Sequence[tuple[str, str, Path]], pool: ThreadPoolExecutor
) -> Iterator[Frame | Verdict]:
    """Yields a frame or a verdict per picture, in order, since duplicates depend on the order."""
    source = context.source

    def sha256(file: Path) -> str | OSError:
        try:
            return known_sha256(file)
        except OSError as error:
            return error

    def store(item: str | Verdict, scene: str, file: Path, content: str) -> Frame | Verdict:
        if isinstance(item, Verdict):
            return item
        try:
            picture = store_picture(
                file, context.frames_folder, item, context.params.max_pixels, content
            )
        except UnreadableInput as why:
            return context.failed(item, why)
        return Frame(
            id=item,
            source=source.name,
            file=f"{FRAMES}/{picture.file.name}",
            content=picture.content,
            width=picture.width,
            height=picture.height,
            crop=(0, 0, picture.width, picture.height),
            scene=scene,
        )

    names, scenes, paths = zip(*files, strict=True)
    contents: list[str] = []
    items: list[str | Verdict] = []  # the ids of pictures to store, else verdicts
    for name, content in zip(names, pool.map(sha256, paths), strict=True):
        if isinstance(content, OSError):
            why = UnreadableInput("unreadable", f"{name} cannot be read: {content.strerror}")
            items.append(context.failed(context.unique_id(f"{source.content}-file"), why))
            contents.append("")
            continue
        first = f"{source.content}-{content[:DIGEST_LENGTH]}"
        item = context.unique_id(first)
        detail = f"{name} was there before"
        duplicate = context.rejected(item, "duplicate_picture", detail) if item != first else None
        items.append(duplicate or item)
        contents.append(content)
    yield from pool.map(store, items, scenes, paths, contents)
