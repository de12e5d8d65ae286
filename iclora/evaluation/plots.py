"""Geometry of the report's plots: numbers to percentages, which the template renders as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from iclora.evaluation.controls import ADAPTER
from iclora.evaluation.results import CAPPED
from schemas.evaluation import ArmReport, Margins, Score

ROW = 26
"""Height of a plot's row in SVG units."""

_NARROWEST = 0.1

TITLES = {
    "consistency": (
        "Consistency",
        "mean cosine between the panels of a set; one panel repeated is 1",
    ),
    "consistency_dino": ("Consistency (DINOv2)", "the same, by an encoder without words"),
    "true_consistency": ("True consistency", "share of character and setting that panels agree on"),
    "variety": ("Variety", "panels that are not the same picture twice, nor composed alike"),
    "spread": (
        "Spread over seeds",
        "how differently one caption is composed over seeds; 0 is the same canvas",
    ),
    "adherence": ("Adherence", "mean cosine between each panel and its own text"),
    "true_adherence": ("True adherence", "share of the named attributes that are drawn"),
    "own_margin": (
        "Own-text margin",
        "own text's cosine over the other panels' texts; chance is 0",
    ),
    "wins": ("Own text wins", "share of panels that fit their own text best"),
    "structure": ("Structure", "seams where the layout says, and one picture in each panel"),
    "identity": ("Conditional identity", "mean cosine between the given panel and the drawn ones"),
    "untouched": ("Given panels untouched", "share that came back to the pixel"),
    "memorised": ("Memorised", "share that lies closer to a training set than unseen real sets do"),
    "nearest": ("Nearest training set", "mean cosine to it, panel by panel"),
    "clipping": ("Clipping", "share of pixels that are black or white to the end of the scale"),
    "flatness": ("Flatness", "share of 8 x 8 blocks without structure"),
    "sharpness": ("Sharpness", "log10 of 1 + the variance of the Laplacian"),
    "residue": ("Residue", "how alike the corners of different canvases are: a watermark's trace"),
}
"""Title and explanation per score, in the order of the report."""

HIGHER_IS_WORSE = frozenset({"memorised", "nearest", "clipping", "flatness", "residue"})


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
    """Plot of one score over the arms, or of one difference over the scores."""

    name: str
    title: str
    about: str
    marks: tuple[PlotMark, ...]
    height: int
    ticks: tuple[tuple[float, str], ...]
    """Tick positions in percent, with labels."""

    summary: str
    """Text alternative for screen readers."""


def score_plots(arms: Mapping[str, ArmReport]) -> list[Plot]:
    """Builds one plot per score, with every arm that has it."""
    return [
        _plot(name, TITLES[name], [(a.label, a.arm, a.scores[name]) for a in having])
        for name in TITLES
        if (having := [a for a in arms.values() if name in a.scores])
        and any(a.arm == ADAPTER for a in having)
    ]


def _plot(name: str, about: tuple[str, str], rows: Sequence[tuple[str, str, Score]]) -> Plot:
    low = min(score.low for _, _, score in rows)
    high = max(score.high for _, _, score in rows)
    start, end, ticks = axis(*_room(low, high))
    marks = [
        PlotMark(
            label, arm, format_score(score), ROW * number + ROW // 2, *_places(score, start, end)
        )
        for number, (label, arm, score) in enumerate(rows)
    ]
    summary = "; ".join(f"{label} {format_score(score)}" for label, _, score in rows)
    return Plot(name, *about, tuple(marks), ROW * len(rows), ticks, summary)


def _room(low: float, high: float) -> tuple[float, float]:
    """Widens a range to a tenth or more, so negligible differences look small; shares end at 1."""
    lacking = max(0.0, _NARROWEST - (high - low))
    top = high + lacking / 2
    if high <= 1 < top:
        top = 1.0
    bottom = top - max(high - low, _NARROWEST)
    return (0.0, max(high, _NARROWEST)) if low >= 0 > bottom else (bottom, top)


def _places(score: Score, start: float, end: float) -> tuple[float, float, float]:
    x, low, high = (
        round(100 * (value - start) / (end - start), 2)
        for value in (score.value, score.low, score.high)
    )
    return x, low, high


def axis(low: float, high: float) -> tuple[float, float, tuple[tuple[float, str], ...]]:
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


def format_score(score: Score) -> str:
    """Formats a score as ``0.812 [0.790, 0.834]``."""
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


class Tile(NamedTuple):
    """Headline score."""

    title: str
    value: str
    difference: str
    verdict: str


_TILES = ("consistency", "true_consistency", "adherence", "true_adherence", "variety", "structure")


def tiles(arms: Mapping[str, ArmReport], paired: Mapping[str, Score]) -> list[Tile]:
    """Builds the tiles of the adapter's headline scores, with differences to the baseline."""
    own = arms[ADAPTER].scores
    return [
        Tile(
            TITLES[name][0],
            f"{own[name].value:.2f}",
            format_signed(paired[name]),
            _verdict(name, paired[name]),
        )
        for name in _TILES
        if name in own and name in paired
    ]


def absent(arms: Mapping[str, ArmReport]) -> list[str]:
    """Explains the scores missing from each arm; scores with the same reason share a sentence."""
    found: dict[tuple[str, str], list[str]] = {}
    for arm in arms.values():
        for name, why in arm.unmeasured.items():
            title = TITLES[name][0].lower() if name in TITLES else name
            found.setdefault((arm.label, why), []).append(title)
    shared: dict[tuple[str, str], list[str]] = {}
    for (label, why), names in found.items():
        shared.setdefault((", ".join(names), why), []).append(label)
    return [
        f"{' and '.join(labels)} without {names}: {why}." for (names, why), labels in shared.items()
    ]


class Difference(NamedTuple):
    """Paired difference, as a row of the table beside the plots."""

    title: str
    text: str
    better: str
    """Verdict: ``better``, ``worse`` or ``no difference shown``."""

    margin: str
    """Non-inferiority margin of the rule; empty if there is none."""


def differences(paired: Mapping[str, Score], margins: Margins) -> list[Difference]:
    """Describes adapter minus another arm, per score."""
    allowed: dict[str, float] = {**margins.model_dump(), "own_margin": margins.adherence}
    titles: dict[str, str] = {}
    for name, (title, _) in TITLES.items():
        titles |= {name: title, f"{name}{CAPPED}": f"{title}, as far as real sets go"}
        if f"{name}{CAPPED}" in paired and name in allowed:
            allowed[f"{name}{CAPPED}"] = allowed.pop(name)
    names = [name for name in titles if name in paired]
    return [
        Difference(
            titles[name],
            format_signed(paired[name]),
            _verdict(name, paired[name]),
            f"-{allowed[name]:g}" if name in allowed else "",
        )
        for name in names
    ]


def format_signed(score: Score) -> str:
    """Formats a difference as ``+0.031 [+0.010, +0.052]``."""
    value, low, high = (round(x, 3) + 0.0 for x in (score.value, score.low, score.high))
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"  # the sum makes -0.0 positive


def _verdict(name: str, score: Score) -> str:
    if score.low <= 0 <= score.high:
        return "no difference shown"
    return "better" if (score.low > 0) != (name in HIGHER_IS_WORSE) else "worse"


class Curve(NamedTuple):
    """Smoothed loss over steps, as an SVG path in 0..1000 x 0..240."""

    path: str
    raw: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    summary: str


_WIDTH, _HEIGHT = 1000, 240
_MOST_POINTS = 400


def loss_curve(rows: Sequence[tuple[int, float]]) -> Curve | None:
    """Builds a training's loss curve; None with fewer than two finite steps.

    Args:
        rows: step and loss, in order; non-finite losses are excluded.
    """
    finite = [(step, loss) for step, loss in rows if math.isfinite(loss)]
    if len(finite) < 2:  # noqa: PLR2004 - a line has two ends
        return None
    thin = finite[:: max(1, len(finite) // _MOST_POINTS)]
    smooth = _smoothed(thin)
    x0, x1, x_ticks = axis(float(thin[0][0]), float(thin[-1][0]))
    y0, y1, y_ticks = axis(min(y for _, y in thin), max(y for _, y in thin))

    def path(points: Sequence[tuple[int, float]]) -> str:
        places = [
            f"{_WIDTH * (x - x0) / (x1 - x0):.1f} {_HEIGHT * (y1 - y) / (y1 - y0):.1f}"
            for x, y in points
        ]
        return "M" + " L".join(places)

    summary = f"from {smooth[0][1]:.4f} at step {thin[0][0]} to {smooth[-1][1]:.4f} at step "
    return Curve(path(smooth), path(thin), x_ticks, y_ticks, f"{summary}{thin[-1][0]}")


def _smoothed(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Smooths exponentially over about a twentieth of the points; starts with a plain mean."""
    share = 1.0 / max(1.0, len(points) / 20)
    value, found = 0.0, list[tuple[int, float]]()
    for number, (step, loss) in enumerate(points, 1):
        value += max(share, 1.0 / number) * (loss - value)
        found.append((step, value))
    return found
