"""Information: Shannon entropy of the luma histogram."""

from __future__ import annotations

import numpy as np

from iclora.filtering.checks import Limit, QualityCheck
from iclora.filtering.frame_image import FrameImage


def entropy(image: FrameImage) -> float:
    """Computes the Shannon entropy of the luma histogram (256 bins), in bits."""
    counts = np.bincount(image.luma.ravel(), minlength=256)
    shares = counts[counts > 0] / image.luma.size
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # never minus zero


CHECK = QualityCheck("entropy", entropy, (Limit("low_information", "min_entropy"),), order=3)
