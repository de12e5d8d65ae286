"""Is one frame any good: measurements, and what its thresholds make of them.

Everything is measured on the crop (bars and seams left out) at 512 px on the longer side, so one
set of thresholds serves every resolution; only the size itself is taken in source pixels.
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
"""Measurement to value, four decimals."""

_HALF_SHARP = 100.0
"""Variance of the Laplacian at which a picture counts as half sharp (a usual blur threshold)."""

_RIM = 9
"""Side of the brush that widens masks, in pixels: compression smears an overlay's edge."""

_MOST_ENTROPY = 8.0
"""Bits; of 256 equally frequent grey levels."""


class Rejection(NamedTuple):
    """Why a frame is not good enough."""

    reason: str
    value: float
    threshold: float
    detail: str = ""


def measure_quality(image: FrameImage, frame: Frame) -> Scores:
    """The measurements of a frame.

    Returns:
        ``side`` (pixels, shorter side of the crop), ``luma`` (0-1), ``sharpness`` (variance of
        the Laplacian), ``entropy`` (0-8 bits), ``text`` and ``title`` (0-1) and ``merit`` (0-1).
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
    """Variance of the Laplacian of 8-bit luma (Pech-Pacheco et al., ICPR 2000).

    A logo is sharp in a blurred picture too, so masked overlays and their rims are left out.
    """
    second = cv2.Laplacian(luma, cv2.CV_64F)
    if masked is not None and masked.any():
        rims = cv2.dilate(masked.astype(np.uint8), np.ones((_RIM, _RIM), np.uint8))
        second = second[rims == 0]
    return round(float(second.var()), 4) if second.size else 0.0


def entropy(luma: Luma) -> float:
    """Shannon entropy of the luma histogram (256 bins), in bits."""
    counts = np.bincount(luma.ravel(), minlength=256)
    shares = counts[counts > 0] / luma.size
    return round(float(-(shares * np.log2(shares)).sum()) + 0.0, 4)


def quality_score(scores: Scores) -> float:
    """How good a frame is among good ones (0-1): sharp, rich in tones, well exposed, no text."""
    sharp = scores["sharpness"] / (scores["sharpness"] + _HALF_SHARP)
    rich = scores["entropy"] / _MOST_ENTROPY
    exposed = 1 - abs(2 * scores["luma"] - 1) ** 2
    return round(math.sqrt(max(0.0, sharp * rich * exposed * (1 - scores["text"]))), 4)


def quality_rejection(scores: Scores, params: QualityParams) -> Rejection | None:
    """The first threshold that a frame fails, or None.

    The order goes from what says most to what follows from it: a black frame is also empty.
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
