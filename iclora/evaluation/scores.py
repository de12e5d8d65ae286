"""Named scores per arm, from measured canvases.

An arm is a model's renders, a control, or the real sets. Every score stays an array over prompts
(and seeds) until the end, so that comparisons stay paired. Scores that do not apply to a control
are absent, with a reason; values are never imputed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from iclora.evaluation import metrics
from iclora.evaluation.bootstrap import Resampling, interval
from iclora.evaluation.controls import REPEATED, SHUFFLED, repeated, shuffled
from iclora.evaluation.measurements import CanvasMeasurements
from iclora.evaluation.metrics import Array
from iclora.evaluation.pixel_metrics import residue, structure
from iclora.evaluation.scorers import ImageTextEncoder
from schemas.caption import Caption
from schemas.evaluation import ArmReport, EvaluateParams

Scores = dict[str, Array]
"""Scores by name, [N, K] or [N] each."""

FEW_REAL_SETS = 20
"""Number of unseen sets below which distances between training sets are added to the sample."""

_QUANTILE = 0.99
"""Quantile of real sets that defines normal: values of 99 in 100 real pairs or panels are no
fault."""

_COMPOSITION_SHARE = 0.25
"""Share of the mean difference between a scene's real panels, for ``Limits.spread``. Two renders of
one caption share the staging as well as the scene, so they are more similar than panels of a scene:
0.23 apart on the film world, where panels are 0.54 apart. Rejected: a low quantile of the real
panels' differences, which twenty sets do not estimate reliably (it refused perfect renders).
"""

_DEFAULT_INNER_LIMIT = 6.5
"""Default limit without real sets: the 99th percentile of the film world's own panels."""


class Limits(NamedTuple):
    """Limits derived from real sets."""

    near_duplicate: float
    """Cosine above which two panels count as near-duplicates."""

    inner: float
    """Maximum strength of a line inside one image."""

    memorized: float | None
    """Cosine to the nearest training set above which a render counts as memorized."""

    spread: float | None
    """Required difference in composition between two renders of one caption: a quarter of the
    difference between real panels of one scene."""


class TrainingEmbeddings(NamedTuple):
    """Embeddings of the training sets, for nearest-neighbor search."""

    keys: Sequence[str]
    panels: Array
    """Panel embeddings, [M, P, D]."""


def find_limits(
    real: CanvasMeasurements | None,
    training: TrainingEmbeddings,
    params: EvaluateParams,
    *,
    seen: bool = False,
) -> Limits:
    """Derives limits from the real sets and the training sets.

    Args:
        real: the real sets [M, 1, ...], or None if there are none.
        training: the training sets; may be empty.
        params: the floor of ``near_duplicate`` and the tail of ``memorised``.
        seen: true if the real sets are training sets.
    """
    rows = [training.panels] if len(training.panels) else []
    inner, spread = _DEFAULT_INNER_LIMIT, None
    if real is not None:
        rows.append(real.clip[:, 0])
        inner = float(np.nanquantile(real.inner, _QUANTILE))
        spread = _COMPOSITION_SHARE * float(np.nanmean(metrics.composition(real.thumbs[:, 0])))
    near = params.near_duplicate
    if rows:
        cosines = np.concatenate(rows) @ np.swapaxes(np.concatenate(rows), -1, -2)
        near = max(near, float(np.nanquantile(_pairs(cosines), _QUANTILE)))
    unseen = None if seen else real
    return Limits(near, inner, _memorized_limit(unseen, training, params.memorized_tail), spread)


def _pairs(matrices: Array) -> Array:
    """Extracts the pairs i < j from [S, P, P] to [S, P (P - 1) / 2]."""
    first, second = np.triu_indices(matrices.shape[-1], k=1)
    return matrices[:, first, second]


def _memorized_limit(
    real: CanvasMeasurements | None, training: TrainingEmbeddings, tail: float
) -> float | None:
    """Returns the cosine of unseen real sets to training sets at the quantile ``1 - tail``."""
    if len(training.panels) < 2:  # noqa: PLR2004 - a lone set has no neighbour
        return None
    near = np.zeros(0)
    if real is not None:
        near, _ = metrics.nearest(real.clip[:, 0], training.panels)
    if len(near) < FEW_REAL_SETS:
        near = np.concatenate([near, metrics.nearest_others(training.panels)])
    return float(np.nanquantile(near, 1.0 - tail))


def embed_texts(captions: Sequence[Caption], clip: ImageTextEncoder) -> Array:
    """Embeds the text of every panel, [N, P, D] unit rows."""
    rows = np.asarray(clip.texts([part for c in captions for part in c.parts]), np.float64)
    return rows.reshape(len(captions), -1, rows.shape[-1])


def embedding_scores(panels: Array, thumbs: Array, texts: Array, limits: Limits) -> Scores:
    """Computes the scores that need only embeddings and thumbnails, and so apply to controls.

    Args:
        panels: [N, K, P, D].
        thumbs: [N, K, P, h, w].
        texts: [N, P, D].
        limits: limits derived from real sets.
    """
    found = {
        "consistency": metrics.consistency(panels),
        "variety": metrics.variety(panels, thumbs, limits.near_duplicate),
        "adherence": metrics.adherence(panels, texts),
        "own_margin": metrics.own_margin(panels, texts),
        "wins": metrics.wins(panels, texts),
    }
    if panels.shape[1] > 1:
        found["spread"] = metrics.spread(thumbs)
    return found


def arm_scores(
    measured: CanvasMeasurements, texts: Array, training: TrainingEmbeddings, limits: Limits
) -> Scores:
    """Computes every score of an arm of renders or real sets."""
    found = embedding_scores(measured.clip, measured.thumbs, texts, limits)
    found["structure"] = structure(measured.plain["seams"], measured.inner, limits.inner)
    for name in ("clipping", "flatness", "sharpness"):
        found[name] = measured.plain[name]
    shape = measured.plain["seams"].shape
    found["residue"] = residue(measured.corners.reshape(-1, *measured.corners.shape[2:])).reshape(
        shape
    )
    if measured.dino is not None:
        found["consistency_dino"] = metrics.consistency(measured.dino)
    if limits.memorized is not None:
        near, _ = metrics.nearest(measured.clip, training.panels)
        found["nearest"] = near
        found["memorised"] = np.where(
            np.isnan(near), np.nan, (near > limits.memorized).astype(np.float64)
        )
    return found


def control_scores(measured: CanvasMeasurements, texts: Array, limits: Limits) -> dict[str, Scores]:
    """Computes the scores of the controls built from an arm's own panels.

    The shuffled control requires more prompts than panels and is absent otherwise.
    """
    count, panels = measured.clip.shape[0], measured.clip.shape[2]
    makers = {REPEATED: repeated, **({SHUFFLED: shuffled} if count > panels else {})}
    return {
        name: embedding_scores(make(measured.clip), make(measured.thumbs), texts, limits)
        for name, make in makers.items()
    }


def report_arm(
    arm: str, label: str, scores: Scores, how: Resampling, reasons: Mapping[str, str]
) -> ArmReport:
    """Summarizes an arm's scores with their intervals.

    Args:
        arm: role of the arm.
        label: display name.
        scores: arrays over prompts.
        how: confidence and resamples.
        reasons: reasons for scores that this arm cannot have.
    """
    report = {name: interval(values, how) for name, values in scores.items()}
    unmeasured = dict(reasons)
    for name, score in report.items():
        if score is None:
            unmeasured[name] = "fewer than two prompts could be measured"
    some = scores.get("consistency", np.zeros((0, 0)))
    return ArmReport(
        arm=arm,
        label=label,
        renders=int((~np.isnan(some)).sum()),
        scores={name: score for name, score in report.items() if score is not None},
        unmeasured=unmeasured,
    )
