"""64-bit perceptual hash: the signs of an image's low frequencies.

The luma is averaged down to 32 x 32. The 8 x 8 lowest frequencies of its 2-D discrete cosine
transform, without the constant's row and column, are compared with their median (Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.1).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE, _LOW = 32, 8
BITS = _LOW * _LOW


def perceptual_hash(luma: NDArray[np.uint8]) -> str:
    """Computes the hash of an image's luma [height, width], as 16 hex digits."""
    small = cv2.resize(luma, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[1 : _LOW + 1, 1 : _LOW + 1]
    # Round to integers: the frequencies of a flat image are rounding noise around zero.
    steps = np.rint(low).astype(np.int64)
    bits = (steps > np.median(steps)).ravel()
    return np.packbits(bits).tobytes().hex()


def hash_distance(one: str, other: str) -> int:
    """Returns the number of differing bits of two hashes, 0 to 64."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
