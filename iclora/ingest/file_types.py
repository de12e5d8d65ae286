"""File name classification: natural order, file kinds and junk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from posixpath import dirname, splitext

_FILMS = (
    ".3g2 .3gp .asf .avi .f4v .flv .h264 .h265 .hevc .ivf .m2ts .m2v .m4v .mkv .mov .mp4 .mpe "
    ".mpeg .mpg .mts .mxf .nut .ogm .ogv .ts .vob .webm .wmv .y4m"
)
_PICTURES = ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .png .ppm .tif .tiff .webp"
FILM_SUFFIXES = frozenset(_FILMS.split())
PICTURE_SUFFIXES = frozenset(_PICTURES.split())
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

_UNSUPPORTED = {
    "convert it to PNG or JPEG": (
        ".3fr .arw .avci .cr2 .cr3 .dds .dng .eps .exr .hdr .heic .heics .heif .heifs .hif .icns "
        ".ico .j2k .jpf .jpx .jxl .jxr .mng .nef .nrw .orf .pbm .pcx .pef .pgm .pnm .psb .psd .raf "
        ".rw2 .srw .svg .tga .wdp .xcf"
    ),
    "convert it to MP4 (ffmpeg -i FILE film.mp4)": (
        ".264 .265 .amv .av1 .bik .braw .dav .divx .dv .evo .gxf .insv .lrv .m1v .m2p .m2t .mj2 "
        ".mjpeg .mjpg .mod .mp2v .mpv .obu .qt .r3d .rm .rmvb .roq .swf .tod .tp .trp .vro .wtv "
        ".xvid"
    ),
    "unpack it": ".7z .ace .arj .cab .cpio .dmg .iso .lzh .rar .tzst",
}
_ADVICE = {
    suffix: advice for advice, suffixes in _UNSUPPORTED.items() for suffix in suffixes.split()
}
"""Suffixes of pictures, films and archives that no reader reads, and what to do with the file."""

_MAGIC = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG picture", ".jpg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG picture", ".png"),
    (re.compile(rb"GIF8[79]a"), "GIF picture", ".gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP picture", ".webp"),
    (re.compile(rb"II\*\0|MM\0\*"), "TIFF picture", ".tiff"),
    (re.compile(rb"BM....\0\0\0\0", re.DOTALL), "BMP picture", ".bmp"),
    (re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n"), "JPEG 2000 picture", ".jp2"),
    (re.compile(rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a"), "JPEG XL picture", ".jxl"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF picture", ".avif"),
    (re.compile(rb"....ftyp(?:hei|hev|mif|msf)", re.DOTALL), "HEIC picture", ".heic"),
    (re.compile(rb"....ftyp", re.DOTALL), "MP4 film", ".mp4"),
    (re.compile(rb"....(?:moov|mdat|wide)", re.DOTALL), "QuickTime film", ".mov"),
    (re.compile(rb"\x1aE\xdf\xa3"), "Matroska film", ".mkv"),
    (re.compile(rb"RIFF....AVI ", re.DOTALL), "AVI film", ".avi"),
    (re.compile(rb"FLV\x01"), "FLV film", ".flv"),
    (re.compile(rb"0&\xb2u\x8ef\xcf\x11"), "ASF film", ".wmv"),
    (re.compile(rb"\0\0\x01\xba"), "MPEG film", ".mpg"),
    (re.compile(rb"G.{187}G.{187}G", re.DOTALL), "MPEG transport stream", ".ts"),
    (re.compile(rb"\.RMF"), "RealMedia film", ".rm"),
)
"""First bytes of pictures and films, with the format and its usual suffix."""

_HEAD_BYTES = 400

_SILENT = (
    ".aac .ass .cfg .cls .css .csv .doc .docx .flac .htm .html .idx .ini .js .json .jsonl "
    ".lock .log .lrc .m3u .m3u8 .m4a .md .md5 .mp3 .nfo .npy .npz .ods .ogg .opus .pdf .pickle "
    ".pkl .pt .pth .py .rst .rtf .safetensors .sbv .sha256 .smi .srt .ssa .sub .text .toml .tsv "
    ".ttml .txt .url .vtt .wav .wma .xls .xlsx .xml .xmp .yaml .yml"
)
_SILENT_SUFFIXES = frozenset(_SILENT.split())
"""Suffixes of texts, metadata and sounds, which need no verdict."""

_SHARD = re.compile(r"[-_.]\d{4,}\.tar$")
_JUNK = frozenset(("__macosx", "thumbs.db", "desktop.ini", "@eadir"))
_DIGITS = re.compile(r"([0-9]+)")


def advice_for(name: str) -> str:
    """Says what to do with a file whose suffix no reader reads; empty for other suffixes."""
    return _ADVICE.get(suffix_of(name), "")


def media_fault(name: str, folder: Path | None) -> str:
    """Says why a file that looks like a picture or a film is not read, and what to do.

    Args:
        name: Name of a file that no reader matches, relative to its folder.
        folder: Folder whose file is opened if the suffix does not tell what it is; None if it is
            remote and only the suffix counts.

    Returns:
        One sentence; empty if the file is neither a picture nor a film (texts, metadata, sounds).
    """
    suffix = suffix_of(name)
    if advice := advice_for(name):
        return f"{name}: {suffix} is not a format that is read; {advice}"
    if suffix in _SILENT_SUFFIXES or folder is None:
        return ""
    try:
        with (folder / name).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}"
    for magic, what, usual in _MAGIC:
        if magic.match(head):
            advice = _ADVICE.get(usual) or f"rename it to {PurePosixPath(name).stem}{usual}"
            kind = f"the suffix {suffix}" if suffix else "no suffix"
            return f"{name} is a {what} with {kind}; {advice}"
    return ""


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
