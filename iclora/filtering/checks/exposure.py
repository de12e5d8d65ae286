"""Exposure: mean luma, 0 (black) to 1 (white)."""

from __future__ import annotations

from iclora.filtering.checks import Limit, QualityCheck
from iclora.filtering.frame_image import FrameImage


def mean_luma(image: FrameImage) -> float:
    """Computes the mean luma, 0 to 1."""
    return float(image.luma.mean()) / 255


CHECK = QualityCheck(
    "luma", mean_luma, (Limit("black", "min_luma"), Limit("blown", "max_luma")), order=2
)
