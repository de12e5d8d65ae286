"""Everything measured, put together: arms, paired differences, limits, extremes, decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from iclora.evaluation import metrics
from iclora.evaluation.bootstrap import Resampling, paired
from iclora.evaluation.contest import Contest
from iclora.evaluation.controls import ADAPTER, BASE, REAL, REPEATED, RIVAL, SHUFFLED, remarks
from iclora.evaluation.decide import Evidence, decide
from iclora.evaluation.judges import Judges
from iclora.evaluation.measure import Measured, measure
from iclora.evaluation.metrics import Array
from iclora.evaluation.renders import GIVEN_PANEL, Renders
from iclora.evaluation.scores import (
    Gallery,
    Limits,
    Scores,
    arm_scores,
    control_scores,
    embed_texts,
    find_limits,
    report_arm,
)
from iclora.evaluation.suite import Suite, structured
from iclora.evaluation.truth import (
    Read,
    agreements,
    shuffled_read,
    true_adherence,
    true_consistency,
)
from schemas.config import Config
from schemas.evaluation import Agreement, ArmReport, Decision, EvaluateParams, Remark, Score

CAPPED = "_capped"
"""Behind a score's name: what exceeds the real sets' own counts for nothing."""

_CONTROL_LABELS = {
    REPEATED: "panel repeated",
    SHUFFLED: "panels shuffled",
    REAL: "real sets",
}
_MADE_OF_PANELS = "the control is made of the adapter's panels, so its canvas does not exist"
_ONE_SEED = "there is one canvas a caption"
_EXTREMES = 5
_QUALITY = ("consistency", "adherence", "variety", "structure")
"""The worst sets are those with the lowest mean rank in these."""


class Findings(NamedTuple):
    """What an evaluation found out."""

    arms: dict[str, ArmReport]
    paired: dict[str, dict[str, Score]]
    decision: Decision
    remarks: tuple[Remark, ...]
    agreement: tuple[Agreement, ...]
    limits: dict[str, float]
    worst: list[tuple[int, int, float]]
    """Prompt, seed and mean rank (0 worst, 1 best) of the adapter's worst renders."""

    nearest: list[tuple[int, int, float, str]]
    """Prompt, seed, cosine and key of the training set, of the nearest renders."""


class Evidences(NamedTuple):
    """What the judges are shown."""

    renders: Mapping[str, Renders]
    suite: Suite
    gallery: Gallery


def resampling(params: EvaluateParams) -> Resampling:
    """How this evaluation draws its intervals."""
    return Resampling(params.confidence, params.resamples, params.seed)


def find_out(contest: Contest, shown: Evidences, judges: Judges) -> Findings:
    """Measures everything and applies the rule."""
    config, how = contest.config, resampling(contest.config.evaluate)
    real = _measure_real(shown.suite, config, judges)
    limits = find_limits(real, shown.gallery, config.evaluate, seen=shown.suite.real_seen)
    texts = _texts(shown.suite.prompts, config, judges)
    measured = {
        arm: measure(r.open_free(), config.layout, judges) for arm, r in shown.renders.items()
    }
    scores = {
        arm: {**arm_scores(m, texts, shown.gallery, limits), **_truths(m.read, shown.suite, config)}
        for arm, m in measured.items()
    }
    conditional = {arm: _conditional(r, config, judges) for arm, r in shown.renders.items()}
    for arm, found in conditional.items():
        scores[arm].update(found)
    controls = control_scores(measured[ADAPTER], texts, limits)
    if SHUFFLED in controls and (read := measured[ADAPTER].read):
        controls[SHUFFLED].update(_truths(shuffled_read(read), shown.suite, config))
    if real is not None:
        controls[REAL] = _real_scores(real, shown, limits, config, judges)
    arms = _report_arms(contest, scores, controls, how)
    ceilings = _ceilings(arms.get(REAL), limits)
    differences = _paired(scores, ceilings, how)
    told = remarks(arms)
    return Findings(
        arms=arms,
        paired=differences,
        decision=_decide(contest, arms, differences, told, conditional[ADAPTER]),
        remarks=told,
        agreement=agreements(list(scores.values()), how, controls.get(SHUFFLED)),
        limits=_said_limits(limits, ceilings),
        worst=worst_renders(scores[ADAPTER]),
        nearest=nearest_renders(measured[ADAPTER], shown.gallery),
    )


def _ceilings(real: ArmReport | None, limits: Limits) -> dict[str, float]:
    """What counts for nothing: everything above these.

    Consistency at the real sets' upper bound; variety at their mean; spread, which real sets do not
    have because each caption has one, at ``Limits.spread``.
    """
    found = {} if limits.spread is None else {"spread": limits.spread}
    scores = real.scores if real else {}
    if "consistency" in scores:
        found["consistency"] = scores["consistency"].high
    if "variety" in scores:
        found["variety"] = scores["variety"].value
    return found


def _texts(captions: Sequence[str], config: Config, judges: Judges) -> Array:
    return embed_texts([structured(caption, config) for caption in captions], judges.clip)


def _measure_real(suite: Suite, config: Config, judges: Judges) -> Measured | None:
    if not suite.real:
        return None
    return measure([[found.open] for found in suite.real], config.layout, judges)


def _real_scores(
    real: Measured, shown: Evidences, limits: Limits, config: Config, judges: Judges
) -> Scores:
    captions = [found.caption for found in shown.suite.real]
    found = arm_scores(real, _texts(captions, config, judges), shown.gallery, limits)
    found["identity"] = metrics.identity(real.clip, (GIVEN_PANEL,))[:, 0]
    if shown.suite.real_seen:
        del found["nearest"], found["memorised"]
    if real.read is not None:
        found["true_consistency"] = true_consistency(real.read)
        structures = [structured(caption, config) for caption in captions]
        found["true_adherence"] = true_adherence(real.read, structures)
    return found


def _truths(read: Read | None, suite: Suite, config: Config) -> Scores:
    if read is None:
        return {}
    captions = [structured(prompt, config) for prompt in suite.prompts]
    return {
        "true_consistency": true_consistency(read),
        "true_adherence": true_adherence(read, captions),
    }


def _conditional(renders: Renders, config: Config, judges: Judges) -> Scores:
    if not renders.conditional:
        return {}
    drawn = measure(renders.open_conditional(), config.layout, judges)
    untouched = np.array(renders.untouched(config.layout), np.float64)
    return {
        "identity": metrics.identity(drawn.clip, (GIVEN_PANEL,))[:, 0],
        "untouched": untouched,
    }


def _report_arms(
    contest: Contest, scores: Mapping[str, Scores], controls: Mapping[str, Scores], how: Resampling
) -> dict[str, ArmReport]:
    labels = {side.arm: side.label for side in contest.sides}
    drawn = {arm: report_arm(arm, labels[arm], found, how, {}) for arm, found in scores.items()}
    made = {
        arm: report_arm(arm, _CONTROL_LABELS[arm], found, how, _reasons(arm))
        for arm, found in controls.items()
    }
    return {**drawn, **made}


def _reasons(arm: str) -> dict[str, str]:
    if arm == REAL:
        return {"spread": _ONE_SEED}
    return dict.fromkeys(("structure", "memorised", "identity"), _MADE_OF_PANELS)


def _paired(
    scores: Mapping[str, Scores], ceilings: Mapping[str, float], how: Resampling
) -> dict[str, dict[str, Score]]:
    """Adapter minus base, and minus the rival, score by score; capped ones beside the plain."""
    own, found = scores[ADAPTER], dict[str, dict[str, Score]]()
    for arm in (BASE, RIVAL):
        theirs = scores.get(arm, {})
        both = [name for name in own if name in theirs]
        differences = {name: paired(own[name], theirs[name], how) for name in both}
        for name in ceilings:
            if name in both:
                cut = paired(own[name], theirs[name], how, ceilings[name])
                differences[f"{name}{CAPPED}"] = cut
        if theirs:
            found[arm] = {name: score for name, score in differences.items() if score is not None}
    return found


def _decide(
    contest: Contest,
    arms: Mapping[str, ArmReport],
    differences: Mapping[str, Mapping[str, Score]],
    told: Sequence[Remark],
    conditional: Scores,
) -> Decision:
    rival = differences[contest.rival.arm]
    plain = {name: score for name, score in rival.items() if not name.endswith(CAPPED)}
    cut = {n.removesuffix(CAPPED): s for n, s in rival.items() if n.endswith(CAPPED)}
    memorised = arms[ADAPTER].scores.get("memorised")
    evidence = Evidence(
        rival=contest.rival.label,
        paired={**plain, **cut},
        uncut={name: plain[name] for name in cut},
        memorised=memorised.value if memorised else None,
        untouched=float(conditional["untouched"].mean()) if conditional else None,
        broken=tuple(remark.text for remark in told if remark.broken),
    )
    return decide(evidence, contest.config.evaluate)


def _said_limits(limits: Limits, ceilings: Mapping[str, float]) -> dict[str, float]:
    said = {
        "near_duplicate": limits.near_duplicate,
        "inner_line": limits.inner,
        "memorised": limits.memorised,
        **{f"{name} needs no more than": value for name, value in ceilings.items()},
    }
    return {name: round(value, 4) for name, value in said.items() if value is not None}


def worst_renders(scores: Scores, count: int = _EXTREMES) -> list[tuple[int, int, float]]:
    """The renders with the lowest mean rank over the quality scores; unmeasured ones left out."""
    ranks = [_rank_shares(scores[name]) for name in _QUALITY]
    mean = np.mean(ranks, axis=0)
    order = np.argsort(np.where(np.isnan(mean), np.inf, mean), axis=None, kind="stable")
    places = [np.unravel_index(flat, mean.shape) for flat in order]
    found = [(int(n), int(k), round(float(mean[n, k]), 4)) for n, k in places]
    return [place for place in found if not np.isnan(place[2])][:count]


def _rank_shares(values: Array) -> Array:
    """Each value's share of the others that lie below it, 0 to 1; NaN stays."""
    below = (values.reshape(-1)[None, :] < values.reshape(-1)[:, None]).sum(axis=1)
    shares = below / max(1, values.size - 1)
    return np.where(np.isnan(values), np.nan, shares.reshape(values.shape))


def nearest_renders(
    measured: Measured, gallery: Gallery, count: int = _EXTREMES
) -> list[tuple[int, int, float, str]]:
    """The renders that lie nearest to a training set, one a prompt."""
    if not len(gallery.panels):
        return []
    near, which = metrics.nearest(measured.clip, gallery.panels)
    known = np.where(np.isnan(near), -np.inf, near)
    seeds = known.argmax(axis=1)
    best = known.max(axis=1)
    prompts = [int(n) for n in np.argsort(-best, kind="stable") if np.isfinite(best[n])][:count]
    return [
        (n, int(seeds[n]), round(float(best[n]), 4), gallery.keys[int(which[n, seeds[n]])])
        for n in prompts
    ]
