"""The rule by which an adapter becomes champion; pure, so every branch can be tested.

Not worse (non-inferiority): the lower bound of the paired difference lies above minus a margin,
for adherence, variety, spread, structure and, where it was measured, identity. Memorisation under
its bound, given panels untouched. Better: the interval of consistency or adherence excludes zero.
A tie keeps the rival.

Better has two chances, each at half the tail: an adapter that is the rival in all but noise is
promoted at most once in twenty times.

Consistency above the real sets' own upper bound counts for nothing. Variety and spread of the rival
count as far as real sets have them and no further: the adapter must reach the rival's or the real
sets', whichever is less, by the same margin and lower bound; what was lost above that is told
beside it. Otherwise real sets themselves would
be refused, because panels that have nothing to do with each other, and drawings that disobey their
caption, are the most various of all. On the film world, drawn with each attribute right at a rate:

    right   consistency   variety   spread
    0.5     0.29          0.89      0.74
    0.9     0.69          0.78      0.38
    1.0     0.83          0.73      0.23     (a real set of the same caption)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from schemas.evaluation import Check, Decision, EvaluateParams, Margins, Score

REQUIRED = ("variety", "spread", "adherence", "own_margin", "structure")
OPTIONAL = ("identity",)
BETTER = ("consistency", "adherence")
MIN_PROMPTS = 8
"""Below this no interval decides: of five prompts, all lie on one side of zero by chance once in
32 times on each side, and a bootstrap cannot know it. The intervals' coverage is tested from 8."""

_MARGIN_OF = {"own_margin": "adherence"}
"""The own-versus-other margin is a cosine difference like adherence, and shares its margin."""


class Evidence(NamedTuple):
    """What the rule looks at."""

    rival: str
    """As people call it: ``the base`` or ``name@version``."""

    paired: Mapping[str, Score]
    """Adapter minus rival; consistency, variety and spread cut at what real sets have. Identity is
    absent where nothing was completed."""

    uncut: Mapping[str, Score]
    """Of the scores that were cut, the difference before."""

    memorised: float | None
    """Share of renders nearer to a training set than unseen real sets lie."""

    untouched: float | None = None
    """Share of conditional renders whose given panels came back unchanged; None if none."""

    broken: tuple[str, ...] = ()
    """What the controls say against the measurement."""


def decide(evidence: Evidence, params: EvaluateParams) -> Decision:
    """Promoted or refused, with every check in words.

    Args:
        evidence: paired differences and shares; values have at most four decimals.
        params: margins, and the bounds of what is memorised and missing.

    Returns:
        The decision; its first reason is what decided.
    """
    checks = [
        _trusted(evidence.broken),
        _measured(evidence.paired, params.missing),
        _memorised(evidence.memorised, params.memorised),
    ]
    if evidence.untouched is not None:
        checks.append(_untouched(evidence.untouched))
    checks += _not_worse_checks(evidence, params.margins)
    better = _better(evidence)
    failed = tuple(check.text for check in (*checks, better) if not check.passed)
    if failed:
        return Decision(outcome="refused", reasons=failed, checks=(*checks, better))
    return Decision(outcome="promoted", reasons=(better.text,), checks=(*checks, better))


def _trusted(broken: tuple[str, ...]) -> Check:
    if broken:
        return Check(name="controls", passed=False, text=" ".join(broken))
    text = "The repeated-panel control is best in consistency and worst in variety, as it must be."
    return Check(name="controls", passed=True, text=text)


def _measured(paired: Mapping[str, Score], bound: float) -> Check:
    """Whether enough prompts were measured; what is absent altogether is told by its own check."""
    scores = [paired[name] for name in (*REQUIRED, *BETTER) if name in paired]
    fewest = min((score.prompts for score in scores), default=0)
    most = max((score.missing for score in scores), default=0)
    share = max((s.missing / (s.prompts + s.missing) for s in scores), default=0.0)
    text = f"{fewest} prompts were measured on both sides; it takes {MIN_PROMPTS} to decide."
    if most:
        text += f" {most} could not be measured; at most {bound:.0%} may be missing."
    passed = fewest >= MIN_PROMPTS and round(share, 4) <= round(bound, 4)
    return Check(name="measured", passed=passed, text=text)


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
        f"{_said(difference)}{_before_the_cut(evidence, name)}."
    )
    return Check(name=name, passed=passed, text=text)


def _before_the_cut(evidence: Evidence, name: str) -> str:
    whole = evidence.uncut.get(name)
    if whole is None or whole == evidence.paired[name]:
        return ""
    return f", counted as far as real sets go (in full {_said(whole)})"


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
            more = _before_the_cut(evidence, name)
            return Check(name="better", passed=True, text=f"{text}{_said(difference)}{more}.")
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
