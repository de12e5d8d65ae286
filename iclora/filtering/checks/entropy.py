"""Information: Shannon entropy of the luma histogram."""

from __future__ import annotations

import numpy as np

from iclora.filtering.checks import Limit, QualityCheck
from iclora.filtering.frame_image import FrameImage, Luma


def entropy(luma: Luma) -> float:
    """Computes the Shannon entropy of the luma histogram (256 bins), in bits."""
    counts = np.bincount(luma.ravel(), minlength=256)
    shares = counts[counts > 0] / luma.size
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # never minus zero


def _measure(image: FrameImage) -> float:
    return entropy(image.luma)


CHECK = QualityCheck("entropy", _measure, (Limit("low_information", "min_entropy"),), order=3)
