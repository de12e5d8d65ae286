"""What draws the eye: the spectral residual of Hou and Zhang (CVPR 2007).

OpenCV 5's headless wheel has no saliency module; the method is a dozen lines: of the picture's
log spectrum the locally expected part is subtracted, and what is left is transformed back.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 64
"""Scale of the picture, as in the paper (section 3.2)."""

_AVERAGE = 3
"""Side of the spectrum's local average (section 3.1)."""

_SIGMA = 2.5
"""Of the final smoothing at this scale (the paper's 8 for a 64-pixel-wide original is blunter)."""

_FLAT = 1.0
"""Steps of 8-bit luma: a picture that varies less has nothing salient."""


_NOISE = _SIDE / 12**0.5
"""Amplitude that rounding luma to whole steps gives every frequency; drawn pictures have spectra
with gaps, whose logarithms would drown everything else."""


def saliency(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How salient each region is.

    Args:
        luma: [height, width], 8 bits, any size.

    Returns:
        [64, 64], not negative, sums to one; zero everywhere for a flat picture.
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
