"""The rule by which an adapter becomes champion; pure, so every branch can be tested.

Not worse (non-inferiority): the lower bound of the paired difference lies above minus a margin,
for adherence, variety, spread, structure and, where it was measured, identity. Memorisation under
its bound, given panels untouched. Better: the interval of consistency or adherence excludes zero.
A tie keeps the rival.

Consistency above the real sets' own upper bound counts for nothing, and so do variety and spread
beyond what real sets surely have. Without the latter no adapter could beat a base: panels that have
nothing to do with each other, and drawings that disobey their caption, are the most various of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from schemas.evaluation import Check, Decision, Margins, Score

REQUIRED = ("variety", "spread", "adherence", "own_margin", "structure")
OPTIONAL = ("identity",)
BETTER = ("consistency", "adherence")
_MARGIN_OF = {"own_margin": "adherence"}
"""The own-versus-other margin is a cosine difference like adherence, and shares its margin."""


class Evidence(NamedTuple):
    """What the rule looks at."""

    rival: str
    """As people call it: ``the base`` or ``name@version``."""

    paired: Mapping[str, Score]
    """Adapter minus rival; consistency, variety and spread cut at what real sets have."""

    memorised: float | None
    """Share of renders nearer to a training set than unseen real sets lie."""

    untouched: float | None = None
    """Share of conditional renders whose given panels came back unchanged; None if none."""

    broken: tuple[str, ...] = ()
    """What the controls say against the measurement."""


def decide(evidence: Evidence, margins: Margins, memorised_bound: float) -> Decision:
    """Promoted or refused, with every check in words.

    Args:
        evidence: paired differences and shares; values have at most four decimals.
        margins: how much worse a score may be.
        memorised_bound: largest share of memorised renders.

    Returns:
        The decision; its first reason is what decided.
    """
    checks = [_trusted(evidence.broken), _memorised(evidence.memorised, memorised_bound)]
    if evidence.untouched is not None:
        checks.append(_untouched(evidence.untouched))
    checks += _not_worse_checks(evidence, margins)
    better = _better(evidence)
    failed = [check.text for check in checks if not check.passed]
    if failed:
        return Decision(outcome="refused", reasons=tuple(failed), checks=(*checks, better))
    outcome = "promoted" if better.passed else "refused"
    return Decision(outcome=outcome, reasons=(better.text,), checks=(*checks, better))


def _trusted(broken: tuple[str, ...]) -> Check:
    if broken:
        return Check(name="controls", passed=False, text=" ".join(broken))
    text = "The repeated-panel control is best in consistency and worst in variety, as it must be."
    return Check(name="controls", passed=True, text=text)


def _not_worse_checks(evidence: Evidence, margins: Margins) -> list[Check]:
    names = [*REQUIRED, *(name for name in OPTIONAL if name in evidence.paired)]
    bounds = margins.model_dump()
    return [
        _not_worse(evidence, name, round(bounds[_MARGIN_OF.get(name, name)], 4)) for name in names
    ]


def _not_worse(evidence: Evidence, name: str, margin: float) -> Check:
    difference = evidence.paired.get(name)
    if difference is None:
        text = f"{_spoken(name)} against {evidence.rival} was not measured."
        return Check(name=name, passed=False, text=text)
    passed = round(difference.low, 4) >= -margin
    failed = "is worse than" if difference.high < -margin else "may be worse than"
    said = "is not worse than" if passed else failed
    text = (
        f"{_spoken(name)} {said} that of {evidence.rival} by more than {margin:g}: "
        f"{_said(difference)}."
    )
    return Check(name=name, passed=passed, text=text)


def _memorised(share: float | None, bound: float) -> Check:
    if share is None:
        text = "Memorisation was not measured: there is no training set to compare with."
        return Check(name="memorisation", passed=False, text=text)
    passed = round(share, 4) <= round(bound, 4)
    text = (
        f"{share:.1%} of the renders lie closer to a training set than unseen real sets do; "
        f"at most {bound:.1%} may."
    )
    return Check(name="memorisation", passed=passed, text=text)


def _untouched(share: float) -> Check:
    text = f"Given panels came back untouched in {share:.1%} of the conditional renders."
    return Check(name="untouched", passed=share >= 1.0, text=text)


def _better(evidence: Evidence) -> Check:
    for name in BETTER:
        difference = evidence.paired.get(name)
        if difference is not None and round(difference.low, 4) > 0:
            text = f"{_spoken(name)} is better than that of {evidence.rival}: "
            return Check(name="better", passed=True, text=f"{text}{_said(difference)}.")
    said = "; ".join(
        f"{name} {_said(evidence.paired[name])}" if name in evidence.paired else f"{name} missing"
        for name in BETTER
    )
    text = f"No evidence of improvement over {evidence.rival} ({said}): {evidence.rival} stays."
    return Check(name="better", passed=False, text=text)


def _spoken(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _said(score: Score) -> str:
    value, low, high = (round(x, 3) + 0.0 for x in (score.value, score.low, score.high))
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"  # the sum makes -0.0 positive
