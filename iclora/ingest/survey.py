"""What is measured while a film is decoded for its cuts."""

from __future__ import annotations

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.ingest.bars import BarGauge
from iclora.ingest.film import Pixels
from iclora.ingest.frames import UNMEASURED, sharpness_of
from schemas.base import Box
from schemas.ingest import IngestParams

_SAMPLES_A_SECOND = 4
"""How often bars and subtitles are looked at; a subtitle stays for a second or more."""


class Survey:
    """Watches every decoded frame of a film once.

    Attributes:
        sharpness: one value a frame, ``UNMEASURED`` where it was not looked at.
        size: width and height of the frames that count; frames of another size are passed over.
    """

    def __init__(self, rate: float, params: IngestParams) -> None:
        shortest = rate * params.shots.min_seconds
        self._stride = max(1, round(shortest / (params.candidates + 1)))
        self._sample = max(1, round(rate / _SAMPLES_A_SECOND))
        self._sharpness: list[float] = []
        self._bars: BarGauge | None = None
        self.size = (0, 0)

    def __call__(self, number: int, _frame: av.VideoFrame, pixels: Pixels) -> None:
        """Looks at one frame (BGR)."""
        height, width = pixels.shape[:2]
        if self._bars is None:
            self.size = (width, height)
            self._bars = BarGauge(width, height)
        assert number == len(self._sharpness), "frames come in order"
        self._sharpness.append(UNMEASURED)
        if (width, height) != self.size:
            return
        sampled = number % self._sample == 0
        if sampled or number % self._stride == 0:
            grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), np.uint8)
            self._sharpness[number] = sharpness_of(grey)
            if sampled:
                self._bars.look(grey)

    @property
    def sharpness(self) -> NDArray[np.float64]:
        """One value a frame."""
        return np.array(self._sharpness, np.float64)

    def picture_box(self) -> Box:
        """The decoded frame without its bars."""
        assert self._bars is not None, "at least one frame was seen"
        return self._bars.box()
