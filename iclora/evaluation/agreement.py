"""Rank correlation of the CLIP metrics with the true scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from iclora.evaluation.bootstrap import MIN_PROMPTS, Resampling
from iclora.evaluation.metrics import Array
from schemas.evaluation import Agreement

PAIRS = (("consistency", "true_consistency"), ("adherence", "true_adherence"))
"""Pairs of metric and true score that should correlate."""


def agreements(
    arms: Sequence[Mapping[str, Array]],
    resampling: Resampling,
    strangers: Mapping[str, Array] | None = None,
) -> tuple[Agreement, ...]:
    """Computes the rank correlation of each metric with the truth over the renders of all models.

    Args:
        arms: the scores of each model, over the same prompts. Models are pooled, because the
            renders of one good model hardly differ in true score.
        resampling: confidence, number of resamples and their seed.
        strangers: the scores of the adapter's panels shuffled between sets, if there are any.

    Returns:
        One entry per metric, plus one for adherence with the shuffled panels ranked among the
        renders; none where the metric or the truth is constant.
    """
    pooled = [(*pair, arms, False) for pair in PAIRS]
    if strangers is not None:
        pooled.append((*PAIRS[1], [*arms, strangers], True))
    results: list[Agreement] = []
    for metric, truth, groups, with_strangers in pooled:
        both = [(arm[metric], arm[truth]) for arm in groups if metric in arm and truth in arm]
        if not both:
            continue
        measured, true = (np.concatenate(side, axis=1) for side in zip(*both, strict=True))
        correlation = spearman(measured, true, resampling)
        if correlation is None:
            continue
        value, low, high = correlation
        results.append(
            Agreement(
                metric=metric,
                truth=truth,
                rank_correlation=value,
                low=low,
                high=high,
                renders=int((~np.isnan(measured + true)).sum()),
                strangers=with_strangers,
            )
        )
    return tuple(results)


def spearman(
    metric: Array, truth: Array, resampling: Resampling
) -> tuple[float, float, float] | None:
    """Computes the rank correlation of two scores over renders, resampled over prompts.

    Args:
        metric: [N, K]; NaN is missing.
        truth: [N, K].
        resampling: confidence, number of resamples and their seed.

    Returns:
        Value, low and high; None when fewer than three prompts were measured or one side is
        constant.
    """
    rows = [
        np.stack([m, t])[:, ~np.isnan(m + t)] for m, t in zip(metric, truth, strict=True)
    ]  # N of [2, measured seeds]
    rows = [row for row in rows if row.shape[1]]
    if len(rows) <= MIN_PROMPTS:
        return None
    value = _rank_correlation(np.concatenate(rows, axis=1))
    if math.isnan(value):
        return None
    rng = np.random.default_rng(resampling.seed)
    draws = rng.integers(len(rows), size=(resampling.resamples, len(rows)))
    values = [_rank_correlation(np.concatenate([rows[i] for i in d], axis=1)) for d in draws]
    tail = (1.0 - resampling.confidence) / 2
    low, high = np.nanquantile(values, [tail, 1.0 - tail])
    return round(value, 4), round(float(low), 4), round(float(high), 4)


def _rank_correlation(pair: Array) -> float:
    """Computes Spearman's correlation of two rows, [2, S]; NaN if one is constant."""
    ranks = np.empty_like(pair)
    for row, values in enumerate(pair):
        _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks[row] = (ends - (counts + 1) / 2)[group]  # from 0; ties share their mean rank
    centered = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centered, axis=1)
    if not norms.all():
        return math.nan
    return float(centered[0] @ centered[1] / (norms[0] * norms[1]))
