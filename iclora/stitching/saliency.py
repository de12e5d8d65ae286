"""Spectral residual saliency (Hou and Zhang, CVPR 2007).

OpenCV 5's headless wheel has no saliency module, so this module implements the method: subtract
the local average from the image's log spectrum and transform the residual back.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 64
"""Side of the downscaled image in pixels, as in the paper (section 3.2)."""

_AVERAGE = 3
"""Side of the spectrum's local average (section 3.1)."""

_SIGMA = 2.5
"""Sigma of the final smoothing in pixels (less blur than the paper's 8 at a width of 64)."""

_FLAT = 1.0
"""Minimum standard deviation of 8-bit luma; flatter images have no salient region."""


_NOISE = _SIDE / 12**0.5
"""Amplitude that rounding luma to integers adds to each frequency. Drawn images have gaps in their
spectra, whose logarithms would otherwise dominate."""


def saliency(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Computes a saliency map.

    Args:
        luma: 8-bit luma [height, width] of any size.

    Returns:
        Non-negative map [64, 64] that sums to one; zero everywhere for a flat image.
    """
    small = cv2.resize(luma, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if float(small.std()) < _FLAT:
        return np.zeros((_SIDE, _SIDE), np.float32)
    spectrum = np.fft.fft2(small)
    logs = np.log(np.abs(spectrum) + _NOISE).astype(np.float32)
    expected = cv2.blur(logs, (_AVERAGE, _AVERAGE), borderType=cv2.BORDER_WRAP)
    rest = np.exp(logs - expected) * np.exp(1j * np.angle(spectrum))
    salient = (np.abs(np.fft.ifft2(rest)) ** 2).astype(np.float32)
    smooth = cv2.GaussianBlur(salient, (0, 0), _SIGMA)
    return smooth / smooth.sum()
