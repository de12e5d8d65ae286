"""True scores on the film world, where an attribute reader knows the content.

True scores validate the CLIP metrics: the report gives their rank correlation over renders. A scene
of that world has one character (hair, hat, shirt) in one setting (place, light), so panels agree if
these attributes agree. A caption names attributes from a closed vocabulary, so adherence is an
exact count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from iclora.evaluation.bootstrap import Resampling, spearman
from iclora.evaluation.controls import shuffled
from iclora.evaluation.measurements import Attributes
from iclora.evaluation.metrics import Array
from iclora.miniature.captions import attributes_in
from iclora.miniature.world import IDENTITY, SETTING
from schemas.caption import Caption
from schemas.evaluation import Agreement

Read = Sequence[Sequence[Sequence[Attributes] | None]]
"""Attributes read from each panel, per prompt and seed; None if unread."""

PAIRS = (("consistency", "true_consistency"), ("adherence", "true_adherence"))
"""Pairs of metric and true score that should correlate."""

_LASTING = sorted(IDENTITY | SETTING)


def true_consistency(read: Read) -> Array:
    """Computes the share of character and setting attributes on which panel pairs agree, [N, K]."""
    return np.array([[_agreeing(panels) for panels in row] for row in read], np.float64)


def _agreeing(panels: Sequence[Attributes] | None) -> float:
    if panels is None:
        return np.nan
    same = [a[name] == b[name] for a, b in combinations(panels, 2) for name in _LASTING]
    return float(np.mean(same))


def true_adherence(read: Read, captions: Sequence[Caption]) -> Array:
    """Computes the share of named attributes that are rendered, [N, K]; NaN if none are named.

    Attributes in the summary must appear on every panel, those of a part on its own panel.
    """
    wanted = [_wanted(caption) for caption in captions]
    return np.array(
        [[_obeyed(panels, want) for panels in row] for row, want in zip(read, wanted, strict=True)],
        np.float64,
    )


def _wanted(caption: Caption) -> list[Attributes]:
    summary = attributes_in(caption.summary)
    return [{**summary, **attributes_in(part)} for part in caption.parts]


def _obeyed(panels: Sequence[Attributes] | None, wanted: Sequence[Attributes]) -> float:
    if panels is None:
        return np.nan
    right = [
        panel[name] == value
        for panel, want in zip(panels, wanted, strict=True)
        for name, value in want.items()
    ]
    return float(np.mean(right)) if right else np.nan


def shuffled_read(read: Read) -> Read:
    """Shuffles the readings for the shuffled control; None where a panel is missing."""
    count = max((len(panels) for row in read for panels in row if panels is not None), default=0)
    seen = np.full((len(read), len(read[0]), count), None, dtype=object)
    for n, row in enumerate(read):
        for k, panels in enumerate(row):
            if panels is not None:
                seen[n, k] = panels
    return [
        [None if any(panel is None for panel in cell) else tuple(cell) for cell in row]
        for row in shuffled(seen)
    ]


def agreements(
    arms: Sequence[Mapping[str, Array]],
    how: Resampling,
    strangers: Mapping[str, Array] | None = None,
) -> tuple[Agreement, ...]:
    """Computes the rank correlation of each metric with the truth over the renders of all models.

    Args:
        arms: the scores of each model, over the same prompts. Models are pooled, because the
            renders of one good model hardly differ in true score.
        how: confidence, number of resamples and their seed.
        strangers: the scores of the adapter's panels shuffled between sets, if there are any.

    Returns:
        One entry per metric, plus one for adherence with the shuffled panels ranked among the
        renders; none where the metric or the truth is constant.
    """
    found = [_agreement(pair, arms, how) for pair in PAIRS]
    if strangers is not None:
        found.append(_agreement(PAIRS[1], [*arms, strangers], how, strangers=True))
    return tuple(agreement for agreement in found if agreement)


def _agreement(
    pair: tuple[str, str],
    arms: Sequence[Mapping[str, Array]],
    how: Resampling,
    *,
    strangers: bool = False,
) -> Agreement | None:
    metric, truth = pair
    both = [(arm[metric], arm[truth]) for arm in arms if metric in arm and truth in arm]
    if not both:
        return None
    measured, true = (np.concatenate(side, axis=1) for side in zip(*both, strict=True))
    result = spearman(measured, true, how)
    if result is None:
        return None
    value, low, high = result
    return Agreement(
        metric=metric,
        truth=truth,
        rank_correlation=value,
        low=low,
        high=high,
        renders=int((~np.isnan(measured + true)).sum()),
        strangers=strangers,
    )
