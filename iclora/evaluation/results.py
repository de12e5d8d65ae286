"""Evaluation results: arms, paired differences, limits, extremes, decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from iclora.evaluation import metrics
from iclora.evaluation.bootstrap import Resampling, paired
from iclora.evaluation.controls import ADAPTER, BASE, BASELINE, REAL, REPEATED, SHUFFLED, remarks
from iclora.evaluation.decide import DecisionInputs, decide
from iclora.evaluation.measurements import CanvasMeasurements, measure_canvases
from iclora.evaluation.metrics import Array
from iclora.evaluation.plan import EvaluationPlan
from iclora.evaluation.prompts import PromptSet, structured
from iclora.evaluation.renders import GIVEN_PANEL, Renders
from iclora.evaluation.scorers import Scorers
from iclora.evaluation.scores import (
    Limits,
    Scores,
    TrainingEmbeddings,
    arm_scores,
    control_scores,
    embed_texts,
    find_limits,
    report_arm,
)
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
"""Suffix of a score's name for its capped version: the part above the real sets' value is cut."""

_CONTROL_LABELS = {
    REPEATED: "panel repeated",
    SHUFFLED: "panels shuffled",
    REAL: "real sets",
}
_MADE_OF_PANELS = "the control is made of the adapter's panels, so its canvas does not exist"
_ONE_SEED = "there is one canvas a caption"
_EXTREMES = 5
_QUALITY = ("consistency", "adherence", "variety", "structure")
"""Scores whose mean rank selects the worst sets."""


class EvaluationResults(NamedTuple):
    """Results of an evaluation."""

    arms: dict[str, ArmReport]
    paired: dict[str, dict[str, Score]]
    decision: Decision
    remarks: tuple[Remark, ...]
    agreement: tuple[Agreement, ...]
    limits: dict[str, float]
    worst: list[tuple[int, int, float]]
    """Prompt, seed and mean rank (0 worst, 1 best) of the adapter's worst renders."""

    nearest: list[tuple[int, int, float, str]]
    """Prompt, seed, cosine and training set key of the renders nearest to a training set."""


class EvaluationInputs(NamedTuple):
    """Renders, real sets, and training embeddings to score."""

    renders: Mapping[str, Renders]
    prompts: PromptSet
    training: TrainingEmbeddings


def resampling(params: EvaluateParams) -> Resampling:
    """Returns the bootstrap parameters of this evaluation."""
    return Resampling(params.confidence, params.bootstrap_resamples, params.bootstrap_seed)


def run_metrics(
    plan: EvaluationPlan, inputs: EvaluationInputs, scorers: Scorers
) -> EvaluationResults:
    """Computes all scores and applies the rule."""
    config, how = plan.config, resampling(plan.config.evaluate)
    real = _measure_real(inputs.prompts, config, scorers)
    limits = find_limits(real, inputs.training, config.evaluate, seen=inputs.prompts.real_seen)
    texts = _texts(inputs.prompts.prompts, config, scorers)
    measured = {
        arm: measure_canvases(r.open_free(), config.layout, scorers)
        for arm, r in inputs.renders.items()
    }
    scores = {
        arm: {
            **arm_scores(m, texts, inputs.training, limits),
            **_truths(m.read, inputs.prompts, config),
        }
        for arm, m in measured.items()
    }
    conditional = {arm: _conditional(r, config, scorers) for arm, r in inputs.renders.items()}
    for arm, found in conditional.items():
        scores[arm].update(found)
    controls = control_scores(measured[ADAPTER], texts, limits)
    if SHUFFLED in controls and (read := measured[ADAPTER].read):
        controls[SHUFFLED].update(_truths(shuffled_read(read), inputs.prompts, config))
    if real is not None:
        controls[REAL] = _real_scores(real, inputs, limits, config, scorers)
    arms = _report_arms(plan, scores, controls, how)
    ceilings = _ceilings(arms.get(REAL), limits)
    differences = _paired(scores, ceilings, how)
    report = remarks(arms)
    return EvaluationResults(
        arms=arms,
        paired=differences,
        decision=_decide(plan, arms, differences, report, conditional[ADAPTER]),
        remarks=report,
        agreement=agreements(list(scores.values()), how, controls.get(SHUFFLED)),
        limits=_format_limits(limits, ceilings),
        worst=worst_renders(scores[ADAPTER]),
        nearest=nearest_renders(measured[ADAPTER], inputs.training),
    )


def _ceilings(real: ArmReport | None, limits: Limits) -> dict[str, float]:
    """Returns the caps of the scores; values above a cap earn no credit.

    Consistency is capped at the real sets' upper bound, variety at their mean, and spread at
    ``Limits.spread``, because real sets have one image per caption and hence no spread.
    """
    found = {} if limits.spread is None else {"spread": limits.spread}
    scores = real.scores if real else {}
    if "consistency" in scores:
        found["consistency"] = scores["consistency"].high
    if "variety" in scores:
        found["variety"] = scores["variety"].value
    return found


def _texts(captions: Sequence[str], config: Config, scorers: Scorers) -> Array:
    return embed_texts([structured(caption, config) for caption in captions], scorers.clip)


def _measure_real(
    prompts: PromptSet, config: Config, scorers: Scorers
) -> CanvasMeasurements | None:
    if not prompts.real:
        return None
    return measure_canvases([[found.open] for found in prompts.real], config.layout, scorers)


def _real_scores(
    real: CanvasMeasurements,
    inputs: EvaluationInputs,
    limits: Limits,
    config: Config,
    scorers: Scorers,
) -> Scores:
    captions = [found.caption for found in inputs.prompts.real]
    found = arm_scores(real, _texts(captions, config, scorers), inputs.training, limits)
    found["identity"] = metrics.identity(real.clip, (GIVEN_PANEL,))[:, 0]
    if inputs.prompts.real_seen:
        del found["nearest"], found["memorised"]
    if real.read is not None:
        found["true_consistency"] = true_consistency(real.read)
        structures = [structured(caption, config) for caption in captions]
        found["true_adherence"] = true_adherence(real.read, structures)
    return found


def _truths(read: Read | None, prompts: PromptSet, config: Config) -> Scores:
    if read is None:
        return {}
    captions = [structured(prompt, config) for prompt in prompts.prompts]
    return {
        "true_consistency": true_consistency(read),
        "true_adherence": true_adherence(read, captions),
    }


def _conditional(renders: Renders, config: Config, scorers: Scorers) -> Scores:
    if not renders.conditional:
        return {}
    drawn = measure_canvases(renders.open_conditional(), config.layout, scorers)
    untouched = np.array(renders.untouched(config.layout), np.float64)
    return {
        "identity": metrics.identity(drawn.clip, (GIVEN_PANEL,))[:, 0],
        "untouched": untouched,
    }


def _report_arms(
    plan: EvaluationPlan,
    scores: Mapping[str, Scores],
    controls: Mapping[str, Scores],
    how: Resampling,
) -> dict[str, ArmReport]:
    labels = {side.name: side.label for side in plan.arms}
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
    """Computes adapter minus base, and minus the rival, per score, with and without caps."""
    own, found = scores[ADAPTER], dict[str, dict[str, Score]]()
    for arm in (BASE, BASELINE):
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
    plan: EvaluationPlan,
    arms: Mapping[str, ArmReport],
    differences: Mapping[str, Mapping[str, Score]],
    report: Sequence[Remark],
    conditional: Scores,
) -> Decision:
    baseline = differences[plan.baseline.name]
    plain = {name: score for name, score in baseline.items() if not name.endswith(CAPPED)}
    cut = {n.removesuffix(CAPPED): s for n, s in baseline.items() if n.endswith(CAPPED)}
    memorised = arms[ADAPTER].scores.get("memorised")
    inputs = DecisionInputs(
        baseline=plan.baseline.label,
        paired={**plain, **cut},
        uncapped={name: plain[name] for name in cut},
        memorized=memorised.value if memorised else None,
        untouched=float(conditional["untouched"].mean()) if conditional else None,
        broken=tuple(remark.text for remark in report if remark.broken),
    )
    return decide(inputs, plan.config.evaluate)


def _format_limits(limits: Limits, ceilings: Mapping[str, float]) -> dict[str, float]:
    said = {
        "near_duplicate": limits.near_duplicate,
        "inner_line": limits.inner,
        "memorised": limits.memorized,
        **{f"{name} needs no more than": value for name, value in ceilings.items()},
    }
    return {name: round(value, 4) for name, value in said.items() if value is not None}


def worst_renders(scores: Scores, count: int = _EXTREMES) -> list[tuple[int, int, float]]:
    """Returns the renders with the lowest mean rank over the quality scores, if measured."""
    ranks = [_rank_shares(scores[name]) for name in _QUALITY]
    mean = np.mean(ranks, axis=0)
    order = np.argsort(np.where(np.isnan(mean), np.inf, mean), axis=None, kind="stable")
    places = [np.unravel_index(flat, mean.shape) for flat in order]
    found = [(int(n), int(k), round(float(mean[n, k]), 4)) for n, k in places]
    return [place for place in found if not np.isnan(place[2])][:count]


def _rank_shares(values: Array) -> Array:
    """Returns each value's share of the others that lie below it, 0 to 1; NaN stays NaN."""
    below = (values.reshape(-1)[None, :] < values.reshape(-1)[:, None]).sum(axis=1)
    shares = below / max(1, values.size - 1)
    return np.where(np.isnan(values), np.nan, shares.reshape(values.shape))


def nearest_renders(
    measured: CanvasMeasurements, training: TrainingEmbeddings, count: int = _EXTREMES
) -> list[tuple[int, int, float, str]]:
    """Returns the renders nearest to a training set, one per prompt."""
    if not len(training.panels):
        return []
    near, which = metrics.nearest(measured.clip, training.panels)
    known = np.where(np.isnan(near), -np.inf, near)
    seeds = known.argmax(axis=1)
    best = known.max(axis=1)
    prompts = [int(n) for n in np.argsort(-best, kind="stable") if np.isfinite(best[n])][:count]
    return [
        (n, int(seeds[n]), round(float(best[n]), 4), training.keys[int(which[n, seeds[n]])])
        for n in prompts
    ]
