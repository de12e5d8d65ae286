"""File name classification: natural order, file kinds and junk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from posixpath import dirname, splitext

_FILMS = (
    ".3g2 .3gp .asf .avi .f4v .flv .h264 .h265 .hevc .ivf .m2ts .m2v .m4v .mkv .mov .mp4 .mpe "
    ".mpeg .mpg .mts .mxf .nut .ogm .ogv .ts .vob .webm .wmv .y4m"
)
_PICTURES = ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .png .ppm .tif .tiff .webp"
FILM_SUFFIXES = frozenset(_FILMS.split())
PICTURE_SUFFIXES = frozenset(_PICTURES.split())
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

_SHARD = re.compile(r"[-_.]\d{4,}\.tar$")
_JUNK = frozenset(("__macosx", "thumbs.db", "desktop.ini", "@eadir"))
_DIGITS = re.compile(r"([0-9]+)")


def natural_key(name: str) -> tuple[object, ...]:
    """Returns a sort key that orders ``shot`` before ``shot2`` and ``shot2`` before ``shot10``."""
    path = PurePosixPath(name)
    parts = [*path.parent.parts, path.stem]
    runs = tuple(
        tuple(
            (0, int(run), "") if run.isascii() and run.isdecimal() else (1, 0, run.casefold())
            for run in _DIGITS.split(part)
            if run
        )
        for part in parts
    )
    return (runs, path.suffix.casefold(), name)


def is_junk(name: str) -> bool:
    """Returns True for hidden and operating system files (``__MACOSX/._x``, ``.DS_Store``)."""
    parts = [part for part in name.split("/") if part not in (".", "..")]
    return any(part.startswith(".") or part.casefold() in _JUNK for part in parts)


def suffix_of(name: str) -> str:
    """Returns the lowercase suffix, such as ``.jpg``."""
    return splitext(name)[1].lower()


def is_film(name: str) -> bool:
    """Returns True if the suffix is that of a film."""
    return suffix_of(name) in FILM_SUFFIXES


def is_picture(name: str) -> bool:
    """Returns True if the suffix is that of a picture."""
    return suffix_of(name) in PICTURE_SUFFIXES


def is_archive(name: str) -> bool:
    """Returns True if the suffix is that of an archive."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def is_shard(name: str) -> bool:
    """Returns True if the name matches a numbered WebDataset shard (``x-000000.tar``)."""
    return bool(_SHARD.search(name.lower()))


def select_pictures(names: Sequence[str], *, captioned: bool) -> list[str]:
    """Selects the pictures in caption folders, or the pictures in all other folders.

    A folder is a caption folder if any of its pictures has a ``.txt`` file with the same stem.
    """
    texts = {name for name in names if suffix_of(name) == ".txt"}
    pictures = [name for name in names if is_picture(name)]
    folders = {dirname(name) for name in pictures if caption_of(name) in texts}
    return [name for name in pictures if (dirname(name) in folders) == captioned]


def caption_of(picture: str) -> str:
    """Returns the name of the caption file of a picture."""
    return splitext(picture)[0] + ".txt"
