"""Sharpness: variance of the Laplacian."""

from __future__ import annotations

import cv2
import numpy as np

from iclora.filtering.checks import Limit, QualityCheck
from iclora.filtering.frame_image import FrameImage

_RIM = 9
"""Kernel size in pixels for dilating masks, because compression blurs an overlay's edges."""


def sharpness(image: FrameImage) -> float:
    """Computes the variance of the Laplacian of 8-bit luma (Pech-Pacheco et al., ICPR 2000).

    Masked overlays and their edges are excluded, because a logo is sharp even in a blurred image.
    """
    second = cv2.Laplacian(image.luma, cv2.CV_64F)
    if image.masked.any():
        rims = cv2.dilate(image.masked.astype(np.uint8), np.ones((_RIM, _RIM), np.uint8))
        second = second[rims == 0]
    return float(second.var()) if second.size else 0.0


CHECK = QualityCheck("sharpness", sharpness, (Limit("blurred", "min_sharpness"),), order=6)
