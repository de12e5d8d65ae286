"""Controls: sets that nobody should want, made of the adapter's own panels, and real ones.

A measurement that cannot tell these from good sets measures nothing. One panel repeated must come
out best in consistency and worst in variety; panels shuffled between sets must lose consistency
and adherence. Both are made on the embeddings, so they cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from iclora.evaluation.metrics import Array
from schemas.evaluation import ArmReport, Remark, Score

ADAPTER, BASE, BASELINE = "adapter", "base", "rival"
REPEATED, SHUFFLED, REAL = "repeated", "shuffled", "real"

REMARKED_SCORES = ("adherence", "own_margin", "variety", "spread", "structure")
"""Scores of which the report says in words when a control beats the adapter."""

_OWN_PANELS = ("adherence", "own_margin", "variety")
"""The same for the controls that are made of the adapter's panels: their spread is its own."""


_BEATS = {
    BASE: "The base beats",
    REPEATED: "One panel repeated beats",
    SHUFFLED: "Panels shuffled between sets beat",
    REAL: "Real sets beat",
}


def repeated(panels: Array) -> Array:
    """The first panel in every place.

    Args:
        panels: [N, K, P, ...].

    Returns:
        The same shape.
    """
    return np.repeat(panels[:, :, :1], panels.shape[2], axis=2)


def shuffled(panels: Array) -> Array:
    """Panel p of prompt n taken from prompt n + p + 1, same seed: all strangers to each other.

    Args:
        panels: [N, K, P, ...].

    Returns:
        The same shape; with N > P no panel stays with its prompt and none has a sibling.
    """
    count = panels.shape[2]
    moved = [np.roll(panels[:, :, panel], -(panel + 1), axis=0) for panel in range(count)]
    return np.stack(moved, axis=2)


def broken_metrics(arms: Mapping[str, ArmReport]) -> tuple[Remark, ...]:
    """The ways in which the controls show that the measurement itself is broken.

    The repeated panel must be best in consistency and worst in variety: no arm may lie beyond it,
    and the shuffled panels must lie strictly on the other side of it, or the score cannot tell the
    one extreme from the other. An adapter that draws one picture whatever it is asked has no
    panels to shuffle: that is its own fault as long as the score tells another arm from it.
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
    """Whether the adapter lies at the extreme by itself, where the base or real sets do not."""
    others = [arms[name].scores.get(score) for name in (BASE, REAL) if name in arms]
    own = arms[ADAPTER].scores.get(score)
    apart = any(other is not None and other.value != extreme for other in others)
    return own is not None and own.value == extreme and apart


def _broken(score: str, why: str) -> Remark:
    text = f"The metric {score} is broken here: {why}"
    return Remark(control=REPEATED, score=score, text=text, broken=True)


def remarks(arms: Mapping[str, ArmReport]) -> tuple[Remark, ...]:
    """Everything the controls have to say, the broken metrics first."""
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
