"""Controls: bad sets built from the adapter's own panels, and real sets.

A metric that cannot tell bad sets from good ones is broken. Controls operate on embeddings, so they
need no extra renders.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from iclora.evaluation.metrics import Array
from schemas.evaluation import ArmReport, Remark

ADAPTER, BASE, BASELINE = "adapter", "base", "rival"
REPEATED, SHUFFLED, REAL = "repeated", "shuffled", "real"

_EMBEDDING_SCORES = ("adherence", "own_margin", "variety")
_REAL_SCORES = (*_EMBEDDING_SCORES, "spread", "structure")
_COMPARED = {
    BASE: ("The base beats", ("consistency", *_REAL_SCORES)),
    REPEATED: ("One panel repeated beats", _EMBEDDING_SCORES),
    SHUFFLED: ("Panels shuffled between sets beat", _EMBEDDING_SCORES),
    REAL: ("Real sets beat", _REAL_SCORES),
}
"""Wording per control, and the scores that produce a remark when it beats the adapter."""


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


def remarks(arms: Mapping[str, ArmReport]) -> tuple[Remark, ...]:
    """Collects all remarks on the controls, broken metrics first."""
    own = arms[ADAPTER].scores
    beaten: list[Remark] = []
    for control, (beats, names) in _COMPARED.items():
        scores = arms[control].scores if control in arms else {}
        for name in names:
            if name not in scores or name not in own:
                continue
            control_score, score = scores[name], own[name]
            if round(control_score.value, 3) > round(score.value, 3):
                overlap = "; their intervals overlap" if control_score.low <= score.high else ""
                text = (
                    f"{beats} the adapter in {name.replace('_', ' ')}: "
                    f"{control_score.value:.3f} against {score.value:.3f}{overlap}."
                )
                beaten.append(Remark(control=control, score=name, text=text))
    return (*broken_metrics(arms), *beaten)


def broken_metrics(arms: Mapping[str, ArmReport]) -> tuple[Remark, ...]:
    """Lists the ways in which the controls show that a metric is broken.

    The repeated panel must be best in consistency and worst in variety: no arm may exceed it, and
    the shuffled panels may not equal it.
    """
    return tuple(
        Remark(
            control=REPEATED,
            score=score,
            text=f"The metric {score} is broken here: {reason}",
            broken=True,
        )
        for score, sign, word in (("consistency", 1.0, "best"), ("variety", -1.0, "worst"))
        if (reason := _fault(arms, score, sign, word))
    )


def _fault(arms: Mapping[str, ArmReport], score: str, sign: float, word: str) -> str:
    """Explains the first arm that lies beyond the repeated panel; empty if there is none."""
    repeated_panel = arms[REPEATED].scores.get(score)
    if repeated_panel is None:
        return f"{score} of the repeated panel was not measured."
    extreme = repeated_panel.value
    values = {name: arm.scores[score].value for name, arm in arms.items() if score in arm.scores}
    others = [values[name] for name in (BASE, REAL) if name in values]
    # An adapter that renders one image for every prompt leaves nothing to shuffle. That is not the
    # metric's fault, as long as the score separates another arm from the repeated panel.
    collapsed = values.get(ADAPTER) == extreme and any(value != extreme for value in others)
    for name, value in values.items():
        beyond = sign * (value - extreme)
        inseparable = beyond == 0 and name == SHUFFLED and not collapsed
        if name != REPEATED and (beyond > 0 or inseparable):
            return (
                f"one panel repeated should come out {word} in {score} ({extreme:.3f}), but "
                f"{arms[name].label} has {value:.3f}."
            )
    return ""
