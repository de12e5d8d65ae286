"""Bounds for this dataset: percentiles of its own cosines, resolved to numbers.

CLIP models differ in how similar they find anything (SigLIP's cosines are higher than CLIP's), so
a bound found with one model means nothing for another; a percentile does. The population is the
cosines of neighbouring frames of each source, which is also where the floor and ceiling apply.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iclora.errors import BadInput
from iclora.filtering.similarity import DECIMALS, Cosines
from schemas.filtering import SimilarityParams

MIN_PAIRS = 8
"""Fewer neighbours say nothing about a dataset."""


def resolve_similarity(
    cosines: Sequence[Cosines], similarity: SimilarityParams
) -> SimilarityParams:
    """The band in absolute numbers.

    Args:
        cosines: of each source, those of its neighbouring frames; the order does not matter.
        similarity: returned as it is when its unit is absolute.

    Raises:
        BadInput: the dataset is too small or too uniform for percentiles.
    """
    if similarity.unit == "absolute":
        return similarity
    values = np.sort(np.concatenate([*cosines, np.empty(0)]))
    if len(values) == 0:  # nothing will be formed: every set was given
        return SimilarityParams()
    if len(values) < MIN_PAIRS:
        raise BadInput(
            f"{len(values)} neighbouring pairs are too few for percentiles (at least {MIN_PAIRS}): "
            "set filter.sets.similarity.unit=absolute with floor, ceiling, ends and scene"
        )
    floor, ceiling, ends, scene = (
        round(float(np.quantile(values, share, method="lower")), DECIMALS)
        for share in (
            similarity.min_adjacent,
            similarity.near_duplicate,
            similarity.min_first_last,
            similarity.same_scene,
        )
    )
    if floor >= ceiling:
        raise BadInput(
            f"the percentiles of floor and ceiling are both {floor}: the frames of this dataset "
            "are all alike; set filter.sets.similarity.unit=absolute"
        )
    return SimilarityParams(
        min_adjacent=floor, near_duplicate=ceiling, min_first_last=ends, same_scene=scene
    )
