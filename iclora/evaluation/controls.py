"""Controls: sets that nobody should want, made of the adapter's own panels, and real ones.

A measurement that cannot tell these from good sets measures nothing. One panel repeated must come
out best in consistency and worst in variety; panels shuffled between sets must lose consistency
and adherence. Both are made on the embeddings, so they cost nothing.
"""

from __future__ import annotations

import numpy as np

from iclora.evaluation.metrics import Array
from schemas.evaluation import ArmReport, Remark

REPEATED, SHUFFLED, REAL, BASE = "repeated", "shuffled", "real", "base"

TOLD = ("adherence", "margin", "variety", "spread", "structure")
"""Scores of which the report says in words when a control beats the adapter."""


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


def broken_metrics(arms: dict[str, ArmReport]) -> tuple[Remark, ...]:
    """The ways in which the controls show that the measurement itself is broken.

    The repeated panel must be best in consistency and worst in variety of all arms that were
    measured; equal counts as neither best nor worst only where another arm is strictly beyond it.
    """
    extremes = (("consistency", 1.0, "best"), ("variety", -1.0, "worst"))
    remarks = [_extreme(arms, score, sign=sign, word=word) for score, sign, word in extremes]
    return tuple(remark for remark in remarks if remark)


def _extreme(arms: dict[str, ArmReport], score: str, *, sign: float, word: str) -> Remark | None:
    control = arms[REPEATED].scores.get(score)
    if control is None:
        text = f"{score} of the repeated panel was not measured, so nothing vouches for {score}."
        return Remark(control=REPEATED, score=score, text=text, broken=True)
    for arm in arms.values():
        other = arm.scores.get(score)
        if other is not None and sign * other.value > sign * control.value:
            text = (
                f"One panel repeated should come out {word} in {score} ({control.value:.3f}), but "
                f"{arm.label} has {other.value:.3f}: {score} is broken as a metric here."
            )
            return Remark(control=REPEATED, score=score, text=text, broken=True)
    return None


def remarks(arms: dict[str, ArmReport], adapter: str = "adapter") -> tuple[Remark, ...]:
    """Everything the controls have to say, the broken metrics first."""
    own = arms[adapter].scores
    told: list[Remark] = []
    for control in (BASE, REPEATED, SHUFFLED, REAL):
        if control not in arms or control == adapter:
            continue
        for score in TOLD if control != BASE else ("consistency", *TOLD):
            theirs, ours = arms[control].scores.get(score), own.get(score)
            if theirs is not None and ours is not None and theirs.value > ours.value:
                told.append(_beaten(arms[control], score, theirs.value, ours.value))
    return (*broken_metrics(arms), *told)


def _beaten(arm: ArmReport, score: str, theirs: float, ours: float) -> Remark:
    text = f"{arm.label} beats the adapter in {score}: {theirs:.3f} against {ours:.3f}."
    return Remark(control=arm.arm, score=score, text=text[0].upper() + text[1:])
