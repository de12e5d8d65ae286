"""Films, frame by frame: whatever PyAV opens, as upright pictures with square pixels.

Two decisions. A film is opened through a Python file object and FFmpeg is told that it may open
nothing else, so a playlist that calls itself ``.mp4`` cannot reach other files or the network. And
frames are numbered in the order they are decoded: time stamps may be missing, start late or be
unevenly spaced, so a number is never computed from a time.
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
"""Height x width x 3 (or height x width), 0 to 255."""

_OPTIONS = {"protocol_whitelist": "pipe"}
_BUFFER = 1 << 18
_PADDING = 1 << 16
_MAX_BROKEN = 8
"""Broken packets in a row after which the rest of a film counts as lost."""

_UNSPECIFIED = 2
"""FFmpeg's AVCOL_SPC_UNSPECIFIED."""

_HD_HEIGHT = 720
"""From here on an unmarked film is BT.709, below it BT.601 (ITU-R BT.709, 1.1)."""

_FALLBACK_RATE = Fraction(25)
"""Frames a second of a stream that does not say (raw elementary streams)."""


class FrameOrientation(NamedTuple):
    """How decoded frames become upright pictures with square pixels."""

    swap: bool
    """Rows become columns."""

    across: int
    """-1 mirrors left and right, after swapping; 1 does not."""

    down: int
    """-1 mirrors top and bottom, after swapping; 1 does not."""

    aspect: Fraction
    """Width of a decoded pixel over its height."""


class FilmReader:
    """An open film.

    Attributes:
        stream: PyAV's video stream.
        rate: frames a second, as the container claims.
        size: width and height of decoded frames, in pixels.
    """

    def __init__(self, container: InputContainer, name: str, max_pixels: int) -> None:
        if not container.streams.video:
            raise UnreadableInput("no_video", f"{name} has no video stream")
        self.name = name
        self.container = container
        self.stream = container.streams.video[0]
        context: Any = self.stream.codec_context  # None without a decoder, whatever its stub says
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
        # A stream may grow later; FFmpeg counts the padding of its buffers too.
        context.options = {"max_pixels": str(2 * max_pixels + _PADDING)}
        rate = self.stream.guessed_rate or self.stream.average_rate
        self.rate = Fraction(rate) if rate and rate > 0 else _FALLBACK_RATE
        self.broken = 0

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decodes from here to the end; broken packets are passed over and counted."""
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
        """How long the container says it is; 0 if it does not say."""
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        return (self.container.duration or 0) / av.time_base


@contextmanager
def open_film(path: Path, max_pixels: int) -> Generator[FilmReader]:
    """Opens a film for decoding.

    Raises:
        Unreadable: there is no such file, or nothing in it that can be decoded.
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
            # Titles of old films are seldom UTF-8; nobody reads them here.
            container = av.open(
                file, "r", options=_OPTIONS, buffer_size=_BUFFER, metadata_errors="replace"
            )
        except (FFmpegError, OSError) as error:
            raise UnreadableInput("not_a_film", f"{name} is not a film FFmpeg can read") from error
        with closing(container):
            yield FilmReader(container, name, max_pixels)


def orientation_of(film: FilmReader, frame: av.VideoFrame) -> FrameOrientation:
    """Reads the sample aspect ratio and the display matrix, to the nearest quarter turn.

    The matrix is nine 32-bit integers [a b u; c d v; x y w]; the point (p, q) of the frame is
    shown at (a p + c q + x, b p + d q + y) (FFmpeg, libavutil/display.h).
    """
    found = film.stream.sample_aspect_ratio or film.stream.codec_context.sample_aspect_ratio
    aspect = Fraction(found) if found and found > 0 else Fraction(1)
    side_data: Any = frame.side_data  # its stub has strings where there are items
    matrix = side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return FrameOrientation(swap=False, across=1, down=1, aspect=aspect)
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    swap = abs(b * c) > abs(a * d)
    across, down = (c, b) if swap else (a, d)
    return FrameOrientation(swap, -1 if across < 0 else 1, -1 if down < 0 else 1, aspect)


def upright(pixels: Pixels, shape: FrameOrientation) -> Pixels:
    """Turns, mirrors and stretches a decoded frame; never shrinks a side."""
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
    """Where a box of the decoded frame lies in the upright picture.

    Args:
        box: in pixels of the decoded frame.
        size: width and height of the decoded frame.
        shape: how it becomes upright.
    """
    x0, y0, x1, y1 = box
    width, height = size
    wide, high = max(shape.aspect, Fraction(1)), max(1 / shape.aspect, Fraction(1))
    # Rounded inwards: half a pixel of a bar is still bar.
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
    """The decoded frame as 8-bit RGB, by the matrix it was coded with."""
    if frame.colorspace == _UNSPECIFIED:
        hd = frame.height >= _HD_HEIGHT
        space = Colorspace.ITU709 if hd else Colorspace.ITU601
        return np.asarray(frame.to_ndarray(format="rgb24", src_colorspace=space), np.uint8)
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
