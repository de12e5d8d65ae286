"""Frame decoding at analysis resolution.

JPEGs are decoded at reduced size where sufficient (Pillow's ``draft``), which is three times faster
than a full decode at 1080p.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iclora.errors import BROKEN_PICTURE
from schemas.base import Box
from schemas.frame import Frame

ANALYSIS_SIDE = 512
"""Longer side in pixels at which quality is measured."""

Luma = NDArray[np.uint8]


class UndecodableFrame(Exception):
    """Raised when a frame's image cannot be decoded; the message contains the reason."""


class FrameImage(NamedTuple):
    """Downscaled crop of a frame."""

    picture: Image.Image
    """RGB image, at least as large as requested (or as the crop)."""

    luma: Luma
    """8-bit luma [height, width], up to ``ANALYSIS_SIDE`` on the longer side."""

    masked: NDArray[np.bool_]
    """Mask [height, width] of overlays that are not part of the image."""


def load_frame_image(path: Path, frame: Frame, shorter: int) -> FrameImage:
    """Decodes a frame and crops it to the region with picture content.

    Args:
        path: File of the frame.
        frame: Provides the crop and the masks.
        shorter: Minimum shorter side of the decoded crop in pixels, if the source has that many;
            the input size of the models.

    Raises:
        UndecodableFrame: The file is not a complete image, or its size does not match the frame.
    """
    try:
        with Image.open(path) as image:
            if image.size != (frame.width, frame.height):
                raise UndecodableFrame(
                    f"{image.size} pixels instead of {frame.width, frame.height}"
                )
            image.draft("RGB", _draft_size(frame, shorter))
            picture = image.convert("RGB")
    except BROKEN_PICTURE as error:
        raise UndecodableFrame(str(error)) from error
    scale = picture.width / frame.width
    cut = picture.crop(_scaled(frame.crop, scale))
    luma = _shrunk(cut.convert("L"))
    return FrameImage(cut, luma, _mask(frame, luma))


def _draft_size(frame: Frame, shorter: int) -> tuple[int, int]:
    """Returns the minimum size of the whole image at which the crop is large enough."""
    x0, y0, x1, y1 = frame.crop
    low, high = sorted((x1 - x0, y1 - y0))
    share = min(1.0, max(ANALYSIS_SIDE / high, shorter / low))
    return int(np.ceil(frame.width * share)), int(np.ceil(frame.height * share))


def _scaled(box: Box, scale: float) -> Box:
    x0, y0, x1, y1 = (round(side * scale) for side in box)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _shrunk(luma: Image.Image) -> Luma:
    """Downscales luma to ``ANALYSIS_SIDE`` on the longer side; never enlarges."""
    share = min(1.0, ANALYSIS_SIDE / max(luma.size))
    size = (max(1, round(luma.width * share)), max(1, round(luma.height * share)))
    small = luma if size == luma.size else luma.resize(size, Image.Resampling.BOX)
    return np.asarray(small, np.uint8)


def _mask(frame: Frame, luma: Luma) -> NDArray[np.bool_]:
    masked = np.zeros(luma.shape, np.bool_)
    left, top, right, _ = frame.crop
    scale = luma.shape[1] / (right - left)
    for x0, y0, x1, y1 in frame.masks:
        rows = slice(max(0, int((y0 - top) * scale)), max(0, int(np.ceil((y1 - top) * scale))))
        columns = slice(max(0, int((x0 - left) * scale)), max(0, int(np.ceil((x1 - left) * scale))))
        masked[rows, columns] = True
    return masked
