"""Size of the crop: its shorter side, in pixels of the source."""

from __future__ import annotations

from iclora.filtering.checks import Limit, QualityCheck
from iclora.filtering.frame_image import FrameImage


def shorter_side(image: FrameImage) -> float:
    """Returns the shorter side of the crop in source pixels."""
    x0, y0, x1, y1 = image.frame.crop
    return float(min(x1 - x0, y1 - y0))


CHECK = QualityCheck("side", shorter_side, (Limit("too_small", "min_side"),), order=1)
