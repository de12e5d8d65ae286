"""Quality checks: each module in this package measures one property of a frame and limits it.

A check is one module with a ``CHECK`` object; nothing else has to name it. The page
``docs/write-a-quality-check.md`` shows one.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from iclora.errors import BadConfig
from iclora.filtering.frame_image import FrameImage
from schemas.filtering import QualityParams

Scores = dict[str, float]
"""Mapping of measurement name to value, rounded to four decimals."""

_HALF_SHARP = 100.0
"""Variance of the Laplacian at which sharpness scores one half (a common blur threshold)."""

_MOST_ENTROPY = 8.0
"""Maximum entropy in bits, for 256 equally frequent gray levels."""


class Limit(NamedTuple):
    """Threshold of a measurement; a value equal to it passes."""

    reason: str
    """Reason of the verdict for a frame beyond the limit, in lower_snake case."""

    setting: str
    """Key of the threshold; it begins with ``min_`` or ``max_``."""

    default: float | None = None
    """Threshold unless ``filter.quality.extra`` sets it. None for a key of ``filter.quality``."""

    @property
    def is_maximum(self) -> bool:
        """True if values above the threshold are rejected, false if values below it are."""
        return self.setting.startswith("max_")

    def is_passed(self, value: float, threshold: float) -> bool:
        """Checks that a value is not beyond a threshold."""
        return value <= threshold if self.is_maximum else value >= threshold


class QualityCheck(NamedTuple):
    """Measurement of a frame, with its limits."""

    name: str
    """Name of the score."""

    measure: Callable[[FrameImage], float]
    """Measures a frame; rounded to four decimals before any comparison."""

    limits: tuple[Limit, ...]

    order: int = 100
    """Checks run in this order, causes before their consequences: a black frame also has low
    entropy."""

    version: int = 1
    """Version of ``measure``; a new one measures all frames again."""


class Rejection(NamedTuple):
    """Reason for rejecting a frame."""

    reason: str
    value: float
    threshold: float
    detail: str = ""


@cache
def quality_checks() -> tuple[QualityCheck, ...]:
    """Returns the checks of all modules in this package, in their order."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    checks = [importlib.import_module(f"{__name__}.{name}").CHECK for name in names]
    return tuple(sorted(checks, key=lambda check: check.order))


def quality_thresholds(params: QualityParams) -> dict[str, float]:
    """Returns the threshold of each limit by its setting.

    Raises:
        BadConfig: ``filter.quality.extra`` has a setting that belongs to no check.
    """
    limits = [limit for check in quality_checks() for limit in check.limits]
    extra = {limit.setting: limit.default for limit in limits if limit.default is not None}
    if unknown := sorted(params.extra.keys() - extra.keys()):
        known = ", ".join(sorted(extra)) or "none"
        raise BadConfig(f"unknown key filter.quality.extra.{unknown[0]}; known are {known}")
    return {
        limit.setting: float(getattr(params, limit.setting))
        if limit.default is None
        else params.extra.get(limit.setting, limit.default)
        for limit in limits
    }


def measure_quality(image: FrameImage) -> Scores:
    """Measures a frame by every check, and its ``merit`` (0-1)."""
    scores = {check.name: round(check.measure(image), 4) for check in quality_checks()}
    return scores | {"merit": quality_score(scores)}


def quality_score(scores: Scores) -> float:
    """Computes a quality score (0-1) that favors sharp, rich, well-exposed frames without text."""
    sharp = scores["sharpness"] / (scores["sharpness"] + _HALF_SHARP)
    rich = scores["entropy"] / _MOST_ENTROPY
    exposed = 1 - abs(2 * scores["luma"] - 1) ** 2
    return round(math.sqrt(max(0.0, sharp * rich * exposed * (1 - scores["text"]))), 4)


def quality_rejection(scores: Scores, thresholds: Mapping[str, float]) -> Rejection | None:
    """Returns the first limit that a frame is beyond, or None."""
    for check in quality_checks():
        value = scores[check.name]
        for limit in check.limits:
            threshold = thresholds[limit.setting]
            if not limit.is_passed(value, threshold):
                return Rejection(limit.reason, value, threshold)
    return None
