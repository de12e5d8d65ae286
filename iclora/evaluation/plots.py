"""Geometry of the report's plots: numbers to percentages, which the template renders as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from iclora.evaluation.controls import ADAPTER
from iclora.evaluation.scorers import ScoreInfo
from schemas.evaluation import ArmReport, Score

ROW = 26
"""Height of a plot's row in SVG units."""

_NARROWEST = 0.1
"""Minimum width of a plot's range, so that negligible differences look small."""

_WIDTH, _HEIGHT = 1000, 240
_MAX_POINTS = 400

Ticks = tuple[tuple[float, str], ...]
"""Tick positions in percent, with labels."""


class PlotMark(NamedTuple):
    """Value and interval of one arm in a plot."""

    label: str
    arm: str
    text: str
    """Value and interval as text."""

    y: int
    x: float
    """Position in percent of the plot's width."""

    low: float
    high: float


class Plot(NamedTuple):
    """Plot of one score over the arms."""

    info: ScoreInfo
    marks: tuple[PlotMark, ...]
    height: int
    ticks: Ticks
    summary: str
    """Text alternative for screen readers."""


def score_plots(arms: Mapping[str, ArmReport], infos: Mapping[str, ScoreInfo]) -> list[Plot]:
    """Builds one plot per score that the adapter has, with every arm that has it."""
    return [
        _plot(info, [(arm, arm.scores[name]) for arm in arms.values() if name in arm.scores])
        for name, info in infos.items()
        if name in arms[ADAPTER].scores
    ]


def _plot(info: ScoreInfo, rows: Sequence[tuple[ArmReport, Score]]) -> Plot:
    low = min(score.low for _, score in rows)
    high = max(score.high for _, score in rows)
    # Widen a narrow range; shares end at 1 and at 0.
    top = high + max(0.0, _NARROWEST - (high - low)) / 2
    if high <= 1 < top:
        top = 1.0
    bottom = top - max(high - low, _NARROWEST)
    if low >= 0 > bottom:
        bottom, top = 0.0, max(high, _NARROWEST)
    start, end, ticks = axis(bottom, top)
    marks: list[PlotMark] = []
    for row, (arm, score) in enumerate(rows):
        x, left, right = (
            round(100 * (value - start) / (end - start), 2)
            for value in (score.value, score.low, score.high)
        )
        text = f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
        marks.append(PlotMark(arm.label, arm.arm, text, ROW * row + ROW // 2, x, left, right))
    summary = "; ".join(f"{mark.label} {mark.text}" for mark in marks)
    return Plot(info, tuple(marks), ROW * len(marks), ticks, summary)


def axis(low: float, high: float) -> tuple[float, float, Ticks]:
    """Returns a range that contains both ends, with round ticks (percent and label).

    Steps are 1, 2 or 5 times a power of ten, three to six of them.
    """
    width = max(high - low, 1e-3)
    raw = width / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * 0.999)
    start = math.floor(round(low / step, 6)) * step
    end = math.ceil(round(high / step, 6)) * step
    if end - start < step / 2:
        end = start + step
    count = round((end - start) / step)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = [
        (round(100 * n / count, 2), f"{start + n * step:.{digits}f}") for n in range(count + 1)
    ]
    return start, end, tuple(ticks)


class Curve(NamedTuple):
    """Smoothed loss over steps, as an SVG path in 0..1000 x 0..240."""

    path: str
    raw: str
    x_ticks: Ticks
    y_ticks: Ticks
    summary: str


def loss_curve(rows: Sequence[tuple[int, float]]) -> Curve | None:
    """Builds a training's loss curve; None with fewer than two finite steps.

    Args:
        rows: step and loss, in order; non-finite losses are excluded.
    """
    finite = [(step, loss) for step, loss in rows if math.isfinite(loss)]
    if len(finite) < 2:  # noqa: PLR2004 - a line has two ends
        return None
    thin = finite[:: max(1, len(finite) // _MAX_POINTS)]
    smooth = _smoothed(thin)
    x0, x1, x_ticks = axis(float(thin[0][0]), float(thin[-1][0]))
    y0, y1, y_ticks = axis(min(y for _, y in thin), max(y for _, y in thin))

    def path(points: Sequence[tuple[int, float]]) -> str:
        return "M" + " L".join(
            f"{_WIDTH * (x - x0) / (x1 - x0):.1f} {_HEIGHT * (y1 - y) / (y1 - y0):.1f}"
            for x, y in points
        )

    summary = f"from {smooth[0][1]:.4f} at step {thin[0][0]} to {smooth[-1][1]:.4f} at step "
    return Curve(path(smooth), path(thin), x_ticks, y_ticks, f"{summary}{thin[-1][0]}")


def _smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Smooths exponentially over about a twentieth of the points; starts with a plain mean."""
    share = 1.0 / max(1.0, len(points) / 20)
    value, smooth = 0.0, list[tuple[int, float]]()
    for number, (step, loss) in enumerate(points, 1):
        value += max(share, 1.0 / number) * (loss - value)
        smooth.append((step, value))
    return smooth
