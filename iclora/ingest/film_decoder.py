"""Film decoding: yields the frames of any film PyAV opens, upright and with square pixels.

FFmpeg reads films through a Python file object with a protocol whitelist, so a playlist disguised
as ``.mp4`` cannot open other files or the network. Frame numbers follow decoding order and are
never derived from time stamps, which may be missing, start late or be unevenly spaced.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError
from av.sidedata.sidedata import Type
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from iclora.ingest.result import UnreadableInput
from schemas.base import Box

Pixels = NDArray[np.uint8]
"""Pixel array of shape (height, width, 3) or (height, width), with values from 0 to 255."""

_OPTIONS = {"protocol_whitelist": "pipe"}
_BUFFER = 1 << 18
_PADDING = 1 << 16
_MAX_BROKEN = 8
"""Number of consecutive broken packets after which decoding stops."""

_UNSPECIFIED = 2
"""FFmpeg's AVCOL_SPC_UNSPECIFIED."""

_HD_HEIGHT = 720
"""Minimum height of untagged films decoded as BT.709; others use BT.601 (ITU-R BT.709, 1.1)."""

_FALLBACK_RATE = Fraction(25)
"""Frames per second assumed for streams without a frame rate (raw elementary streams)."""


class FrameOrientation(NamedTuple):
    """The transform from decoded frames to upright pictures with square pixels."""

    swap: bool
    """True to swap rows and columns."""

    across: int
    """-1 to mirror left and right after swapping, else 1."""

    down: int
    """-1 to mirror top and bottom after swapping, else 1."""

    aspect: Fraction
    """Sample aspect ratio: width over height of a decoded pixel."""


class FilmReader:
    """An open film.

    Attributes:
        stream: PyAV video stream.
        rate: Frames per second declared by the container.
        size: Width and height of decoded frames, in pixels.
    """

    def __init__(self, container: InputContainer, name: str, max_pixels: int) -> None:
        if not container.streams.video:
            raise UnreadableInput("no_video", f"{name} has no video stream")
        self.name = name
        self.container = container
        self.stream = container.streams.video[0]
        context: Any = self.stream.codec_context  # None without a decoder, despite its stub
        if context is None:
            raise UnreadableInput("no_decoder", f"FFmpeg has no decoder for the video in {name}")
        self.stream.thread_type = "AUTO"
        self.size = (context.width, context.height)
        if context.width * context.height > max_pixels:
            raise UnreadableInput(
                "too_many_pixels",
                f"{name} has frames of {context.width} x {context.height} pixels, "
                f"more than {max_pixels}",
                context.width * context.height,
                max_pixels,
            )
        # The resolution may increase mid-stream, and FFmpeg counts buffer padding too.
        context.options = {"max_pixels": str(2 * max_pixels + _PADDING)}
        rate = self.stream.guessed_rate or self.stream.average_rate
        self.rate = Fraction(rate) if rate and rate > 0 else _FALLBACK_RATE
        self.broken = 0

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decodes from the current position to the end; skips and counts broken packets."""
        in_a_row = 0
        while True:
            try:
                for frame in self.container.decode(video=0):
                    in_a_row = 0
                    yield frame
            except EndOfFile:
                return
            except (FFmpegError, OSError):
                in_a_row += 1
                self.broken += 1
                if in_a_row >= _MAX_BROKEN:
                    return
            else:
                return

    @property
    def declared_seconds(self) -> float:
        """Returns the duration declared by the container in seconds; 0 if undeclared."""
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        return (self.container.duration or 0) / av.time_base


@contextmanager
def open_film(path: Path, max_pixels: int) -> Generator[FilmReader]:
    """Opens a film for decoding.

    Raises:
        UnreadableInput: The file does not exist or contains no decodable video.
    """
    name = path.name
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableInput("unreadable", f"{name} cannot be opened: {error.strerror}") from error
    with closing(file):
        if not path.stat().st_size:
            raise UnreadableInput("empty_file", f"{name} is empty")
        try:
            # Metadata of old films is seldom UTF-8 and is not used.
            container = av.open(
                file, "r", options=_OPTIONS, buffer_size=_BUFFER, metadata_errors="replace"
            )
        except (FFmpegError, OSError) as error:
            raise UnreadableInput("not_a_film", f"{name} is not a film FFmpeg can read") from error
        with closing(container):
            yield FilmReader(container, name, max_pixels)


def orientation_of(film: FilmReader, frame: av.VideoFrame) -> FrameOrientation:
    """Reads the sample aspect ratio and the display matrix, rounded to a quarter turn.

    The matrix consists of nine 32-bit integers [a b u; c d v; x y w] and maps the point (p, q) to
    (a p + c q + x, b p + d q + y) (FFmpeg, libavutil/display.h).
    """
    declared = film.stream.sample_aspect_ratio or film.stream.codec_context.sample_aspect_ratio
    aspect = Fraction(declared) if declared and declared > 0 else Fraction(1)
    side_data: Any = frame.side_data  # the stub declares the wrong item type
    matrix = side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return FrameOrientation(swap=False, across=1, down=1, aspect=aspect)
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    swap = abs(b * c) > abs(a * d)
    across, down = (c, b) if swap else (a, d)
    return FrameOrientation(swap, -1 if across < 0 else 1, -1 if down < 0 else 1, aspect)


def upright(pixels: Pixels, shape: FrameOrientation) -> Pixels:
    """Stretches, rotates and mirrors a decoded frame; never shrinks a side."""
    height, width = pixels.shape[:2]
    if shape.aspect > 1:
        size = (round(width * shape.aspect), height)
    else:
        size = (width, round(height / shape.aspect))
    if size != (width, height):
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    if shape.swap:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels[:: shape.down, :: shape.across])


def upright_box(box: Box, size: tuple[int, int], shape: FrameOrientation) -> Box:
    """Maps a box from the decoded frame to the upright picture.

    Args:
        box: Box in pixels of the decoded frame.
        size: Width and height of the decoded frame, in pixels.
        shape: Transform to the upright picture.
    """
    x0, y0, x1, y1 = box
    width, height = size
    wide, high = max(shape.aspect, Fraction(1)), max(1 / shape.aspect, Fraction(1))
    # Round inward, so that partial bar pixels are excluded.
    x0, x1, width = math.ceil(x0 * wide), math.floor(x1 * wide), round(width * wide)
    y0, y1, height = math.ceil(y0 * high), math.floor(y1 * high), round(height * high)
    if shape.swap:
        x0, y0, x1, y1, width, height = y0, x0, y1, x1, height, width
    if shape.across < 0:
        x0, x1 = width - x1, width - x0
    if shape.down < 0:
        y0, y1 = height - y1, height - y0
    return (x0, y0, x1, y1)


def rgb_of(frame: av.VideoFrame) -> Pixels:
    """Converts a decoded frame to 8-bit RGB with its own color matrix."""
    if frame.colorspace == _UNSPECIFIED:
        hd = frame.height >= _HD_HEIGHT
        space = Colorspace.ITU709 if hd else Colorspace.ITU601
        return np.asarray(frame.to_ndarray(format="rgb24", src_colorspace=space), np.uint8)
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
