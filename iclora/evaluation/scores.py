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
from iclora.evaluation.scorers import ImageTextEncoder, Scorers
from schemas.caption import Caption
from schemas.evaluation import ArmReport, EvaluateParams

Scores = dict[str, Array]
"""Scores by name, [N, K] or [N] each."""

FEW_REAL_SETS = 20
"""Number of unseen sets below which distances between training sets are added to the sample."""

_QUANTILE = 0.99
"""Quantile of the real sets' values up to which a value is normal."""

_COMPOSITION_SHARE = 0.25
"""Share of the mean difference between a scene's real panels, for ``Limits.spread``."""
# Two renders of one caption share the staging as well as the scene, so they are more similar than
# panels of a scene: 0.23 apart on the film world, where panels are 0.54 apart. A low quantile of
# the real panels' differences cannot be estimated from twenty sets: it refused perfect renders.

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
    sets = [training.panels] if len(training.panels) else []
    inner, spread = _DEFAULT_INNER_LIMIT, None
    if real is not None:
        sets.append(real.clip[:, 0])
        inner = float(np.nanquantile(real.pixels.inner, _QUANTILE))
        differences = metrics.composition(real.pixels.thumbs[:, 0])
        spread = _COMPOSITION_SHARE * float(np.nanmean(differences))
    near_duplicate = params.near_duplicate
    if sets:
        panels = np.concatenate(sets)  # [S, P, D]
        first, second = np.triu_indices(panels.shape[1], k=1)
        cosines = (panels @ np.swapaxes(panels, -1, -2))[:, first, second]
        near_duplicate = max(near_duplicate, float(np.nanquantile(cosines, _QUANTILE)))
    memorized = None
    if len(training.panels) > 1:  # a lone set has no neighbor
        # The cosine of unseen real sets to training sets, at the quantile 1 - tail.
        near = np.zeros(0)
        if real is not None and not seen:
            near, _ = metrics.nearest(real.clip[:, 0], training.panels)
        if len(near) < FEW_REAL_SETS:
            near = np.concatenate([near, metrics.nearest_others(training.panels)])
        memorized = float(np.nanquantile(near, 1.0 - params.memorized_tail))
    return Limits(near_duplicate, inner, memorized, spread)


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
    scores = {
        "consistency": metrics.consistency(panels),
        "variety": metrics.variety(panels, thumbs, limits.near_duplicate),
        "adherence": metrics.adherence(panels, texts),
        "own_margin": metrics.own_margin(panels, texts),
        "wins": metrics.wins(panels, texts),
    }
    if panels.shape[1] > 1:
        scores["spread"] = metrics.spread(thumbs)
    return scores


def arm_scores(
    measured: CanvasMeasurements,
    captions: Sequence[Caption],
    texts: Array,
    training: TrainingEmbeddings,
    limits: Limits,
    scorers: Scorers,
) -> Scores:
    """Computes every score of an arm of renders or real sets.

    Args:
        measured: canvases of the arm.
        captions: captions of its N prompts.
        texts: their embeddings, [N, P, D].
        training: the training sets; may be empty.
        limits: limits derived from real sets.
        scorers: scorers that measured the canvases.
    """
    pixels = measured.pixels
    scores = embedding_scores(measured.clip, pixels.thumbs, texts, limits)
    corners = pixels.corners.reshape(-1, *pixels.corners.shape[2:])
    scores |= {
        "structure": structure(pixels.seams, pixels.inner, limits.inner),
        "clipping": pixels.clipping,
        "flatness": pixels.flatness,
        "sharpness": pixels.sharpness,
        "residue": residue(corners).reshape(pixels.seams.shape),
    }
    for role, scorer in scorers.others.items():
        rows = measured.others[role]
        failed = rows.ndim == pixels.seams.ndim  # on every canvas
        scores |= dict.fromkeys(scorer.infos, rows) if failed else scorer.scores(rows, captions)
    if limits.memorized is not None:
        near, _ = metrics.nearest(measured.clip, training.panels)
        scores["nearest"] = near
        scores["memorised"] = np.where(
            np.isnan(near), np.nan, (near > limits.memorized).astype(np.float64)
        )
    return scores


def control_scores(
    measured: CanvasMeasurements,
    captions: Sequence[Caption],
    texts: Array,
    limits: Limits,
    scorers: Scorers,
) -> dict[str, Scores]:
    """Computes the scores of the controls built from an arm's own panels.

    The shuffled control requires more prompts than panels and is absent otherwise.
    """
    clip, thumbs = measured.clip, measured.pixels.thumbs
    controls = {REPEATED: embedding_scores(repeated(clip), repeated(thumbs), texts, limits)}
    count, _, panels, _ = clip.shape
    if count > panels:
        scores = embedding_scores(shuffled(clip), shuffled(thumbs), texts, limits)
        for role, scorer in scorers.others.items():
            rows = measured.others[role]
            failed = rows.ndim == measured.pixels.seams.ndim  # on every canvas
            if scorer.on_shuffled and not failed:
                scores |= scorer.scores(shuffled(rows), captions)
        controls[SHUFFLED] = scores
    return controls


def report_arm(
    arm: str, label: str, scores: Scores, resampling: Resampling, reasons: Mapping[str, str]
) -> ArmReport:
    """Summarizes an arm's scores with their intervals.

    Args:
        arm: role of the arm.
        label: display name.
        scores: arrays over prompts.
        resampling: confidence and resamples.
        reasons: reasons for scores that this arm cannot have.
    """
    intervals = {name: interval(values, resampling) for name, values in scores.items()}
    few = "fewer than two prompts could be measured"
    renders = scores.get("consistency", np.zeros((0, 0)))
    return ArmReport(
        arm=arm,
        label=label,
        renders=int((~np.isnan(renders)).sum()),
        scores={name: score for name, score in intervals.items() if score is not None},
        unmeasured={
            **reasons,
            **{name: few for name, score in intervals.items() if score is None},
        },
    )
