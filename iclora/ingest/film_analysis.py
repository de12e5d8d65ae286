"""Film measurements taken during the decoding pass for shot detection."""

from __future__ import annotations

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film_decoder import Pixels
from iclora.ingest.frames import BUFFER_BYTES, UNMEASURED, FrameBuffer, OnKept, sharpness_of
from iclora.ingest.letterbox import LetterboxDetector
from iclora.ingest.subtitles import SubtitleDetector, SubtitleLine
from iclora.ingest.watermarks import find_watermarks
from schemas.base import Box
from schemas.ingest import IngestParams

_SAMPLES_PER_SECOND = 4
"""Samples per second for bars and subtitles; a subtitle lasts for a second or more."""

_MAX_SAMPLES = 48
"""Maximum number of thumbnails kept for logo detection, spread over the film."""

_SAMPLE_SIDE = 960


class FilmAnalyzer:
    """A frame observer that measures sharpness, bars, subtitles and watermarks in one pass.

    Args:
        rate: Frames per second.
        params: Ingest parameters; select the measurements.
        on_kept: Callback for buffered frames that a shot keeps, called during decoding.

    Attributes:
        size: Width and height of the first frame, in pixels; frames of other sizes are skipped.
    """

    def __init__(self, rate: float, params: IngestParams, on_kept: OnKept) -> None:
        shortest = rate * params.shots.min_seconds
        self._stride = max(1, round(shortest / (params.candidates_per_shot + 1)))
        self._sample = max(1, round(rate / _SAMPLES_PER_SECOND))
        self._sharpness: list[float] = []
        self._bars = LetterboxDetector(1, 1) if params.crop_bars else None
        self._subtitles = SubtitleDetector() if params.subtitles != "ignore" else None
        self._small: dict[int, Pixels] | None = {} if params.watermark != "ignore" else None
        self._small_stride = self._sample
        self._buffer = FrameBuffer(params, on_kept, BUFFER_BYTES)
        self.size = (0, 0)

    def on_frame(self, number: int, frame: av.VideoFrame, pixels: Pixels) -> None:
        """Measures one frame, given with its BGR pixels."""
        height, width = pixels.shape[:2]
        if not number:
            self.size = (width, height)
            self._bars = LetterboxDetector(width, height) if self._bars else None
        assert number == len(self._sharpness), "frames come in order"
        self._sharpness.append(UNMEASURED)
        sampled = number % self._sample == 0
        if (width, height) != self.size or not (sampled or number % self._stride == 0):
            return
        grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)
        self._sharpness[number] = sharpness_of(grey)
        self._buffer.add(number, frame)
        if sampled:
            self._add_sample(number, grey)

    def on_cut(self, number: int) -> None:
        """Flushes the buffered frames of the shot that ended before this frame."""
        self._buffer.flush_shot(number, self._sharpness)

    def _add_sample(self, number: int, grey: Pixels) -> None:
        if self._bars:
            self._bars.add_frame(grey)
        if self._subtitles:
            self._subtitles.add_frame(number, grey)
        if self._small is not None and number % self._small_stride == 0:
            factor = self._downscale
            height, width = grey.shape
            size = (width // factor, height // factor)
            shrunk = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
            self._small[number] = np.asarray(shrunk, np.uint8)
            if len(self._small) > _MAX_SAMPLES:
                self._small_stride *= 2
                kept = {n: p for n, p in self._small.items() if n % self._small_stride == 0}
                self._small = kept

    @property
    def _downscale(self) -> int:
        return max(1, -(-max(self.size) // _SAMPLE_SIDE))

    @property
    def sharpness(self) -> NDArray[np.float64]:
        """Returns one value per frame; ``UNMEASURED`` for skipped frames."""
        return np.array(self._sharpness, np.float64)

    def picture_box(self) -> Box:
        """Returns the box of the decoded frame without bars."""
        return self._bars.picture_box() if self._bars else (0, 0, self.size[0], self.size[1])

    def watermarks(self) -> tuple[Box, ...]:
        """Detects logos and watermarks outside the bars, in pixels of the decoded frame."""
        if not self._small:
            return ()
        factor = self._downscale
        # Stay two pixels inside the bar edges, which would be the most static feature of all.
        x0, y0, x1, y1 = (side // factor for side in self.picture_box())
        x0, y0 = x0 + 2 * (x0 > 0), y0 + 2 * (y0 > 0)
        shown = [picture[y0 : y1 - 2, x0 : x1 - 2] for picture in self._small.values()]
        height, width = shown[0].shape
        boxes = [mark.box_on(width, height) for mark in find_watermarks(shown)]
        return tuple(
            ((a + x0) * factor, (b + y0) * factor, (c + x0) * factor, (d + y0) * factor)
            for a, b, c, d in boxes
        )

    def subtitles(self) -> tuple[SubtitleLine, ...]:
        """Returns burned-in subtitles, in pixels of the decoded frame."""
        return self._subtitles.lines() if self._subtitles else ()
