"""Controls: bad sets built from the adapter's own panels, and real sets.

A metric that cannot tell bad sets from good ones is broken. One panel repeated must score best in
consistency and worst in variety. Panels shuffled between sets must lose consistency and adherence.
Both controls operate on embeddings, so they need no extra renders.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from iclora.evaluation.metrics import Array
from schemas.evaluation import ArmReport, Remark, Score

ADAPTER, BASE, BASELINE = "adapter", "base", "rival"
REPEATED, SHUFFLED, REAL = "repeated", "shuffled", "real"

REMARKED_SCORES = ("adherence", "own_margin", "variety", "spread", "structure")
"""Scores that produce a remark in the report when a control beats the adapter."""

_OWN_PANELS = ("adherence", "own_margin", "variety")
"""Subset for controls built from the adapter's panels, which share its spread."""


_BEATS = {
    BASE: "The base beats",
    REPEATED: "One panel repeated beats",
    SHUFFLED: "Panels shuffled between sets beat",
    REAL: "Real sets beat",
}


def repeated(panels: Array) -> Array:
    """Repeats the first panel in every position.

    Args:
        panels: [N, K, P, ...].

    Returns:
        The same shape.
    """
    return np.repeat(panels[:, :, :1], panels.shape[2], axis=2)


def shuffled(panels: Array) -> Array:
    """Takes panel p of prompt n from prompt n + p + 1, same seed, so no two panels share a prompt.

    Args:
        panels: [N, K, P, ...].

    Returns:
        The same shape; with N > P no panel stays with its prompt, and no two share a source set.
    """
    count = panels.shape[2]
    moved = [np.roll(panels[:, :, panel], -(panel + 1), axis=0) for panel in range(count)]
    return np.stack(moved, axis=2)


def broken_metrics(arms: Mapping[str, ArmReport]) -> tuple[Remark, ...]:
    """Lists the ways in which the controls show that a metric is broken.

    The repeated panel must be best in consistency and worst in variety: no arm may exceed it, and
    the shuffled panels must lie strictly on the other side, or the score cannot separate the two
    extremes.
    An adapter that renders one image for every prompt leaves nothing to shuffle. That counts as the
    adapter's fault, not the metric's, as long as the score separates another arm from it.
    """
    extremes = (("consistency", 1.0, "best"), ("variety", -1.0, "worst"))
    found = [_extreme(arms, score, sign=sign, word=word) for score, sign, word in extremes]
    return tuple(remark for remark in found if remark)


def _extreme(arms: Mapping[str, ArmReport], score: str, *, sign: float, word: str) -> Remark | None:
    control = arms[REPEATED].scores.get(score)
    if control is None:
        return _broken(score, f"{score} of the repeated panel was not measured.")
    for arm in arms.values():
        other = arm.scores.get(score)
        if other is None or arm.arm == REPEATED:
            continue
        beyond = sign * (other.value - control.value)
        blind = beyond == 0 and arm.arm == SHUFFLED and not _collapsed(arms, score, control.value)
        if beyond > 0 or blind:
            return _broken(
                score,
                f"one panel repeated should come out {word} in {score} ({control.value:.3f}), but "
                f"{arm.label} has {other.value:.3f}.",
            )
    return None


def _collapsed(arms: Mapping[str, ArmReport], score: str, extreme: float) -> bool:
    """Checks if the adapter alone lies at the extreme, without the base or the real sets."""
    others = [arms[name].scores.get(score) for name in (BASE, REAL) if name in arms]
    own = arms[ADAPTER].scores.get(score)
    apart = any(other is not None and other.value != extreme for other in others)
    return own is not None and own.value == extreme and apart


def _broken(score: str, why: str) -> Remark:
    text = f"The metric {score} is broken here: {why}"
    return Remark(control=REPEATED, score=score, text=text, broken=True)


def remarks(arms: Mapping[str, ArmReport]) -> tuple[Remark, ...]:
    """Collects all remarks on the controls, broken metrics first."""
    own = arms[ADAPTER].scores
    report: list[Remark] = []
    for control in (BASE, REPEATED, SHUFFLED, REAL):
        if control not in arms:
            continue
        for score in _remarked_scores(control):
            theirs, ours = arms[control].scores.get(score), own.get(score)
            if theirs and ours and round(theirs.value, 3) > round(ours.value, 3):
                report.append(_beaten(control, score, theirs, ours))
    return (*broken_metrics(arms), *report)


def _remarked_scores(control: str) -> tuple[str, ...]:
    if control == BASE:
        return ("consistency", *REMARKED_SCORES)
    return REMARKED_SCORES if control == REAL else _OWN_PANELS


def _beaten(control: str, score: str, theirs: Score, ours: Score) -> Remark:
    close = "; their intervals overlap" if theirs.low <= ours.high else ""
    text = (
        f"{_BEATS[control]} the adapter in {score.replace('_', ' ')}: {theirs.value:.3f} against "
        f"{ours.value:.3f}{close}."
    )
    return Remark(control=control, score=score, text=text)
