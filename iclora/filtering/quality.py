"""Frame quality: measurements and thresholds.

All measurements use the crop (without bars and seams) at 512 px on the longer side, so one set of
thresholds fits all resolutions. Only the size itself is measured in source pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from iclora.filtering.frame_image import FrameImage, Luma
from iclora.filtering.text_detection import detect_text, text_share
from iclora.filtering.title_detection import title_share
from schemas.filtering import QualityParams
from schemas.frame import Frame

Scores = dict[str, float]
"""Mapping of measurement name to value, rounded to four decimals."""

_HALF_SHARP = 100.0
"""Variance of the Laplacian at which sharpness scores one half (a common blur threshold)."""

_RIM = 9
"""Kernel size in pixels for dilating masks, because compression blurs an overlay's edges."""

_MOST_ENTROPY = 8.0
"""Maximum entropy in bits, for 256 equally frequent gray levels."""


class Rejection(NamedTuple):
    """Reason for rejecting a frame."""

    reason: str
    value: float
    threshold: float
    detail: str = ""


def measure_quality(image: FrameImage, frame: Frame) -> Scores:
    """Measures the quality of a frame.

    Returns:
        ``side`` (pixels, shorter side of the crop), ``luma`` (0-1), ``sharpness`` (variance of the
        Laplacian), ``entropy`` (0-8 bits), ``text`` and ``title`` (0-1) and ``merit`` (0-1).
    """
    reading = detect_text(image.luma)
    x0, y0, x1, y1 = frame.crop
    scores = {
        "side": float(min(x1 - x0, y1 - y0)),
        "luma": round(float(image.luma.mean()) / 255, 4),
        "sharpness": sharpness(image.luma, image.masked),
        "entropy": entropy(image.luma),
        "text": text_share(reading, image.masked),
        "title": title_share(reading, image.masked),
    }
    return scores | {"merit": quality_score(scores)}


def sharpness(luma: Luma, masked: NDArray[np.bool_] | None = None) -> float:
    """Computes the variance of the Laplacian of 8-bit luma (Pech-Pacheco et al., ICPR 2000).

    Masked overlays and their edges are excluded, because a logo is sharp even in a blurred image.
    """
    second = cv2.Laplacian(luma, cv2.CV_64F)
    if masked is not None and masked.any():
        rims = cv2.dilate(masked.astype(np.uint8), np.ones((_RIM, _RIM), np.uint8))
        second = second[rims == 0]
    return round(float(second.var()), 4) if second.size else 0.0


def entropy(luma: Luma) -> float:
    """Computes the Shannon entropy of the luma histogram (256 bins), in bits."""
    counts = np.bincount(luma.ravel(), minlength=256)
    shares = counts[counts > 0] / luma.size
    return round(float(-(shares * np.log2(shares)).sum()) + 0.0, 4)


def quality_score(scores: Scores) -> float:
    """Computes a quality score (0-1) that favors sharp, rich, well-exposed frames without text."""
    sharp = scores["sharpness"] / (scores["sharpness"] + _HALF_SHARP)
    rich = scores["entropy"] / _MOST_ENTROPY
    exposed = 1 - abs(2 * scores["luma"] - 1) ** 2
    return round(math.sqrt(max(0.0, sharp * rich * exposed * (1 - scores["text"]))), 4)


def quality_rejection(scores: Scores, params: QualityParams) -> Rejection | None:
    """Returns the first threshold that a frame fails, or None.

    Causes precede their consequences: a black frame also has low entropy.
    """
    for reason, name, least, most in (
        ("too_small", "side", params.min_side, math.inf),
        ("black", "luma", params.min_luma, math.inf),
        ("blown", "luma", 0.0, params.max_luma),
        ("low_information", "entropy", params.min_entropy, math.inf),
        ("mostly_text", "text", 0.0, params.max_text),
        ("title", "title", 0.0, params.max_title),
        ("blurred", "sharpness", params.min_sharpness, math.inf),
    ):
        value = scores[name]
        if not least <= value <= most:
            return Rejection(reason, value, float(least if value < least else most))
    return None
