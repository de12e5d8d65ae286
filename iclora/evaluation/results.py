"""Evaluation results: arms, paired differences, limits, extremes, decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from iclora.captioning.caption_text import parse_caption
from iclora.evaluation import metrics
from iclora.evaluation.agreement import agreements
from iclora.evaluation.bootstrap import Resampling, paired
from iclora.evaluation.controls import ADAPTER, BASE, BASELINE, REAL, REPEATED, SHUFFLED, remarks
from iclora.evaluation.decide import DecisionInputs, decide
from iclora.evaluation.measurements import CanvasMeasurements, measure_canvases
from iclora.evaluation.plan import EvaluationPlan
from iclora.evaluation.prompts import PromptSet
from iclora.evaluation.renders import GIVEN_PANEL, Renders
from iclora.evaluation.scorers import Scorers
from iclora.evaluation.scores import (
    Scores,
    TrainingEmbeddings,
    arm_scores,
    control_scores,
    embed_texts,
    find_limits,
    report_arm,
)
from schemas.evaluation import Agreement, ArmReport, Decision, Remark, Score
from schemas.layout import Layout

CAPPED = "_capped"
"""Suffix of a score's name for its capped version: the part above the real sets' value is cut."""

_CONTROL_LABELS = {
    REPEATED: "panel repeated",
    SHUFFLED: "panels shuffled",
    REAL: "real sets",
}
_OF_PANELS: dict[str, str] = dict.fromkeys(
    ("structure", "memorised", "identity"),
    "the control is made of the adapter's panels, so its canvas does not exist",
)
_UNMEASURED: dict[str, Mapping[str, str]] = {
    REPEATED: _OF_PANELS,
    SHUFFLED: _OF_PANELS,
    REAL: {"spread": "there is one canvas a caption"},
}
"""Reasons for scores that a control cannot have."""

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


def run_metrics(
    plan: EvaluationPlan,
    renders: Mapping[str, Renders],
    prompts: PromptSet,
    training: TrainingEmbeddings,
    scorers: Scorers,
) -> EvaluationResults:
    """Computes all scores and applies the rule.

    Args:
        plan: arms and settings.
        renders: renders of each arm.
        prompts: the prompts and the real sets.
        training: embeddings of the training sets; may be empty.
        scorers: models that measure the panels.
    """
    layout, params = plan.config.layout, plan.config.evaluate
    markers, prefix = layout.markers, plan.config.caption.prefix
    resampling = Resampling(params.confidence, params.bootstrap_resamples, params.bootstrap_seed)
    real = None
    if prompts.real:
        openers = [[real_set.open] for real_set in prompts.real]
        real = measure_canvases(openers, layout, scorers)
    limits = find_limits(real, training, params, seen=prompts.real_seen)

    # Scores of the arms and the controls, as arrays over prompts.
    captions = [parse_caption(prompt, markers, prefix) for prompt in prompts.prompts]
    texts = embed_texts(captions, scorers.clip)
    measured = {arm: measure_canvases(r.open_free(), layout, scorers) for arm, r in renders.items()}
    conditional = {arm: _conditional_scores(r, layout, scorers) for arm, r in renders.items()}
    scores = {
        arm: arm_scores(canvases, captions, texts, training, limits, scorers) | conditional[arm]
        for arm, canvases in measured.items()
    }
    controls = control_scores(measured[ADAPTER], captions, texts, limits, scorers)
    if real is not None:
        captions = [parse_caption(item.caption, markers, prefix) for item in prompts.real]
        texts = embed_texts(captions, scorers.clip)
        controls[REAL] = arm_scores(real, captions, texts, training, limits, scorers)
        controls[REAL]["identity"] = metrics.identity(real.clip, GIVEN_PANEL)[:, 0]
        if prompts.real_seen:
            controls[REAL].pop("nearest", None)
            controls[REAL].pop("memorised", None)

    # Means with intervals, differences, and the decision.
    labels = {arm.name: arm.label for arm in plan.arms}
    arms = {
        name: report_arm(name, labels[name], own, resampling, {}) for name, own in scores.items()
    } | {
        name: report_arm(name, _CONTROL_LABELS[name], own, resampling, _UNMEASURED[name])
        for name, own in controls.items()
    }
    caps = _caps(arms.get(REAL), limits.spread)
    differences = _paired(scores, caps, resampling)
    control_remarks = remarks(arms)
    all_limits = {
        "near_duplicate": limits.near_duplicate,
        "inner_line": limits.inner,
        "memorised": limits.memorized,
        **{f"{name} needs no more than": value for name, value in caps.items()},
    }
    return EvaluationResults(
        arms=arms,
        paired=differences,
        decision=_decide(plan, arms, differences, control_remarks, conditional[ADAPTER]),
        remarks=control_remarks,
        agreement=agreements(list(scores.values()), resampling, controls.get(SHUFFLED)),
        limits={name: round(value, 4) for name, value in all_limits.items() if value is not None},
        worst=worst_renders(scores[ADAPTER]),
        nearest=nearest_renders(measured[ADAPTER], training),
    )


def _conditional_scores(renders: Renders, layout: Layout, scorers: Scorers) -> Scores:
    if not renders.conditional:
        return {}
    measured = measure_canvases(renders.open_conditional(), layout, scorers)
    return {
        "identity": metrics.identity(measured.clip, GIVEN_PANEL)[:, 0],
        "untouched": np.array(renders.untouched(layout), np.float64),
    }


def _caps(real: ArmReport | None, spread: float | None) -> dict[str, float]:
    """Returns the caps of the scores; values above a cap earn no credit."""
    # Without caps, real sets would be refused: unrelated panels, and renders that ignore their
    # caption, are the most varied of all. On the film world, by the share of attributes that are
    # drawn correctly (1.0 is a real set):
    #   share   consistency   variety   spread
    #   0.5     0.29          0.89      0.74
    #   0.9     0.69          0.78      0.38
    #   1.0     0.83          0.73      0.23
    # Real sets have one image per caption and hence no spread, so its cap is ``Limits.spread``.
    caps = {} if spread is None else {"spread": spread}
    scores = real.scores if real else {}
    if "consistency" in scores:
        caps["consistency"] = scores["consistency"].high
    if "variety" in scores:
        caps["variety"] = scores["variety"].value
    return caps


def _paired(
    scores: Mapping[str, Scores], caps: Mapping[str, float], resampling: Resampling
) -> dict[str, dict[str, Score]]:
    """Computes adapter minus base, and minus the baseline, per score, with and without caps."""
    own, differences = scores[ADAPTER], dict[str, dict[str, Score]]()
    for arm in (BASE, BASELINE):
        if arm not in scores:
            continue
        baseline = scores[arm]
        shared = [name for name in own if name in baseline]
        paired_scores = {name: paired(own[name], baseline[name], resampling) for name in shared}
        for name, cap in caps.items():
            if name in shared:
                paired_scores[f"{name}{CAPPED}"] = paired(
                    own[name], baseline[name], resampling, cap
                )
        differences[arm] = {name: score for name, score in paired_scores.items() if score}
    return differences


def _decide(
    plan: EvaluationPlan,
    arms: Mapping[str, ArmReport],
    differences: Mapping[str, Mapping[str, Score]],
    control_remarks: tuple[Remark, ...],
    conditional: Scores,
) -> Decision:
    baseline = differences[plan.baseline.name]
    uncapped = {name: score for name, score in baseline.items() if not name.endswith(CAPPED)}
    capped = {n.removesuffix(CAPPED): s for n, s in baseline.items() if n.endswith(CAPPED)}
    memorized = arms[ADAPTER].scores.get("memorised")
    inputs = DecisionInputs(
        baseline=plan.baseline.label,
        paired={**uncapped, **capped},
        uncapped={name: uncapped[name] for name in capped},
        memorized=memorized.value if memorized else None,
        untouched=float(conditional["untouched"].mean()) if conditional else None,
        broken=tuple(remark.text for remark in control_remarks if remark.broken),
    )
    return decide(inputs, plan.config.evaluate)


def worst_renders(scores: Scores) -> list[tuple[int, int, float]]:
    """Returns the five renders with the lowest mean rank over the quality scores, if measured."""
    ranks: list[metrics.Array] = []
    for name in _QUALITY:
        # Each value's share of the others that lie below it, 0 to 1; NaN stays NaN.
        values = scores[name]
        below = (values.reshape(-1)[None, :] < values.reshape(-1)[:, None]).sum(axis=1)
        shares = (below / max(1, values.size - 1)).reshape(values.shape)
        ranks.append(np.where(np.isnan(values), np.nan, shares))
    mean = np.mean(ranks, axis=0)
    order = np.argsort(np.where(np.isnan(mean), np.inf, mean), axis=None, kind="stable")
    renders = [np.unravel_index(flat, mean.shape) for flat in order]
    worst = [(int(n), int(k), round(float(mean[n, k]), 4)) for n, k in renders]
    return [render for render in worst if not np.isnan(render[2])][:_EXTREMES]


def nearest_renders(
    measured: CanvasMeasurements, training: TrainingEmbeddings
) -> list[tuple[int, int, float, str]]:
    """Returns the five renders nearest to a training set, one per prompt."""
    if not len(training.panels):
        return []
    near, which = metrics.nearest(measured.clip, training.panels)  # [N, K] each
    near = np.where(np.isnan(near), -np.inf, near)
    seeds, best = near.argmax(axis=1), near.max(axis=1)
    prompts = [int(n) for n in np.argsort(-best, kind="stable") if np.isfinite(best[n])]
    return [
        (n, int(seeds[n]), round(float(best[n]), 4), training.keys[int(which[n, seeds[n]])])
        for n in prompts[:_EXTREMES]
    ]
