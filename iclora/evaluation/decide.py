"""Promotion decision: non-inferiority in every score, improvement in one, no memorization.

It is a pure function, so every branch can be tested. A tie keeps the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from schemas.evaluation import Decision, DecisionCheck, EvaluateParams, Score

REQUIRED = ("consistency", "variety", "spread", "adherence", "own_margin", "structure")
"""Non-inferiority scores: the lower bound of the paired difference lies above minus a margin."""
# Consistency is among them because an adapter without any effect adheres as well as the base: it
# would replace a champion that misses a few attributes, although its panels have nothing in common.

OPTIONAL = ("identity",)
"""Non-inferiority scores that are checked if measured."""

BETTER = ("consistency", "adherence")
"""Scores that count as an improvement if their interval excludes zero."""
# Two chances, each at half the tail: an adapter that differs from the baseline only in noise is
# promoted no more than once in twenty evaluations.

MIN_PROMPTS = 8
"""Minimum number of prompts for a decision. With five prompts, all lie on one side of zero by
chance once in 32 times per side, which a bootstrap cannot detect. Interval coverage is tested
from 8.
"""

MARGIN_OF = {"own_margin": "adherence"}
"""Score whose margin another one shares: both are cosine differences."""


class DecisionInputs(NamedTuple):
    """Inputs of the decision rule."""

    baseline: str
    """Display name of the baseline: ``the base`` or ``name@version``."""

    paired: Mapping[str, Score]
    """Paired differences, adapter minus baseline; consistency, variety and spread are capped at the
    real sets' values. Identity is absent without conditional renders."""

    uncapped: Mapping[str, Score]
    """Differences of the capped scores before capping."""

    memorized: float | None
    """Share of renders closer to a training set than unseen real sets are."""

    untouched: float | None = None
    """Share of conditional renders with unchanged given panels; None without conditional
    renders."""

    broken: tuple[str, ...] = ()
    """Remarks on broken metrics from the controls."""


def decide(inputs: DecisionInputs, params: EvaluateParams) -> Decision:
    """Promotes or refuses, with a sentence per check.

    Args:
        inputs: paired differences and shares, with up to four decimals.
        params: margins, and the bounds on memorized and missing renders.

    Returns:
        The decision; its first reason is the decisive one.
    """
    text = "The repeated-panel control is best in consistency and worst in variety, as it must be."
    broken = " ".join(inputs.broken)
    checks = [
        DecisionCheck(name="controls", passed=not broken, text=broken or text),
        _measured_check(inputs.paired, params.max_missing),
        _memorization_check(inputs.memorized, params.max_memorized),
    ]
    if inputs.untouched is not None:
        text = (
            f"Given panels came back untouched in {inputs.untouched:.1%} of the conditional "
            f"renders."
        )
        checks.append(DecisionCheck(name="untouched", passed=inputs.untouched >= 1.0, text=text))
    margins = params.margins.model_dump()
    names = [*REQUIRED, *(name for name in OPTIONAL if name in inputs.paired)]
    checks += [
        _not_worse_check(inputs, name, round(margins[MARGIN_OF.get(name, name)], 4))
        for name in names
    ]
    better = _improvement_check(inputs)
    checks.append(better)
    failed = tuple(check.text for check in checks if not check.passed)
    return Decision(
        outcome="refused" if failed else "promoted",
        reasons=failed or (better.text,),
        checks=tuple(checks),
    )


def _measured_check(paired: Mapping[str, Score], bound: float) -> DecisionCheck:
    """Checks that enough prompts were measured; absent scores fail in their own checks."""
    scores = [paired[name] for name in (*REQUIRED, *BETTER) if name in paired]
    fewest = min((score.prompts for score in scores), default=0)
    most = max((score.missing for score in scores), default=0)
    share = max((s.missing / (s.prompts + s.missing) for s in scores), default=0.0)
    text = f"{fewest} prompts were measured on both sides; it takes {MIN_PROMPTS} to decide."
    if most:
        text += f" {most} could not be measured; at most {bound:.0%} may be missing."
    passed = fewest >= MIN_PROMPTS and round(share, 4) <= round(bound, 4)
    return DecisionCheck(name="measured", passed=passed, text=text)


def _memorization_check(share: float | None, bound: float) -> DecisionCheck:
    if share is None:
        text = "Memorisation was not measured: there is no training set to compare with."
        return DecisionCheck(name="memorisation", passed=False, text=text)
    text = (
        f"{share:.1%} of the renders lie closer to a training set than unseen real sets do; "
        f"at most {bound:.1%} may."
    )
    passed = round(share, 4) <= round(bound, 4)
    return DecisionCheck(name="memorisation", passed=passed, text=text)


def _not_worse_check(inputs: DecisionInputs, name: str, margin: float) -> DecisionCheck:
    difference, title = inputs.paired.get(name), _display_name(name)
    if difference is None:
        text = f"{title} against {inputs.baseline} was not measured."
        return DecisionCheck(name=name, passed=False, text=text)
    passed = round(difference.low, 4) >= -margin
    failed = "is worse than" if difference.high < -margin else "may be worse than"
    text = (
        f"{title} {'is not worse than' if passed else failed} that of {inputs.baseline} by more "
        f"than {margin:g}: {_describe(inputs, name)}."
    )
    return DecisionCheck(name=name, passed=passed, text=text)


def _improvement_check(inputs: DecisionInputs) -> DecisionCheck:
    for name in BETTER:
        difference = inputs.paired.get(name)
        if difference is not None and round(difference.low, 4) > 0:
            text = (
                f"{_display_name(name)} is better than that of {inputs.baseline}: "
                f"{_describe(inputs, name)}."
            )
            return DecisionCheck(name="better", passed=True, text=text)
    scores = "; ".join(
        f"{name} {format_difference(inputs.paired[name])}"
        if name in inputs.paired
        else f"{name} missing"
        for name in BETTER
    )
    text = f"No evidence of improvement over {inputs.baseline} ({scores}): {inputs.baseline} stays."
    return DecisionCheck(name="better", passed=False, text=text)


def _describe(inputs: DecisionInputs, name: str) -> str:
    """Formats a difference, with the uncapped one if the cap changed it."""
    difference, uncapped = inputs.paired[name], inputs.uncapped.get(name)
    if uncapped is None or uncapped == difference:
        return format_difference(difference)
    return (
        f"{format_difference(difference)}, counted as far as real sets go "
        f"(in full {format_difference(uncapped)})"
    )


def _display_name(name: str) -> str:
    return name.replace("_", " ").capitalize()


def format_difference(score: Score) -> str:
    """Formats a difference as ``+0.031 [+0.010, +0.052]``."""
    value, low, high = (round(x, 3) + 0.0 for x in (score.value, score.low, score.high))
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"  # the sum makes -0.0 positive
