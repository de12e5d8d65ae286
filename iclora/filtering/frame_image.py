"""Frame decoding at analysis resolution.

JPEGs are decoded at reduced size where sufficient (Pillow's ``draft``), which is three times faster
than a full decode at 1080p.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from iclora.errors import BROKEN_PICTURE
from iclora.filtering.text_detection import Luma, Mask, TextDetection, detect_text
from schemas.frame import Frame

ANALYSIS_SIDE = 512
"""Longer side in pixels at which quality is measured."""


class UndecodableFrame(Exception):
    """Raised when a frame's image cannot be decoded; the message contains the reason."""


@dataclass(frozen=True)
class FrameImage:
    """Downscaled crop of a frame."""

    frame: Frame
    picture: Image.Image
    """RGB image, at least as large as requested (or as the crop)."""

    luma: Luma
    """8-bit luma [height, width], up to ``ANALYSIS_SIDE`` on the longer side."""

    masked: Mask
    """Mask [height, width] of overlays that are not part of the image."""

    @cached_property
    def text(self) -> TextDetection:
        """Lines of text in the luma."""
        return detect_text(self.luma)


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
    left, top, right, bottom = frame.crop
    low, high = sorted((right - left, bottom - top))
    # Minimum size of the whole image at which the crop is large enough.
    share = min(1.0, max(ANALYSIS_SIDE / high, shorter / low))
    draft_size = (int(np.ceil(frame.width * share)), int(np.ceil(frame.height * share)))
    try:
        with Image.open(path) as image:
            if image.size != (frame.width, frame.height):
                raise UndecodableFrame(
                    f"{image.size} pixels instead of {frame.width, frame.height}"
                )
            image.draft("RGB", draft_size)
            picture = image.convert("RGB")
    except BROKEN_PICTURE as error:
        raise UndecodableFrame(str(error)) from error
    scale = picture.width / frame.width
    x0, y0, x1, y1 = (round(side * scale) for side in frame.crop)
    crop = picture.crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)))
    luma = _shrunk(crop.convert("L"))
    return FrameImage(frame, crop, luma, _mask(frame, luma))


def _shrunk(luma: Image.Image) -> Luma:
    """Downscales luma to ``ANALYSIS_SIDE`` on the longer side; never enlarges."""
    share = min(1.0, ANALYSIS_SIDE / max(luma.size))
    size = (max(1, round(luma.width * share)), max(1, round(luma.height * share)))
    small = luma if size == luma.size else luma.resize(size, Image.Resampling.BOX)
    return np.asarray(small, np.uint8)


def _mask(frame: Frame, luma: Luma) -> Mask:
    masked = np.zeros(luma.shape, np.bool_)
    left, top, right, _ = frame.crop
    scale = luma.shape[1] / (right - left)
    for x0, y0, x1, y1 in frame.masks:
        rows = slice(max(0, int((y0 - top) * scale)), max(0, int(np.ceil((y1 - top) * scale))))
        columns = slice(max(0, int((x0 - left) * scale)), max(0, int(np.ceil((x1 - left) * scale))))
        masked[rows, columns] = True
    return masked
