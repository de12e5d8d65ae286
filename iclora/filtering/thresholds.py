"""Similarity bounds of a dataset: percentiles of its own cosines, resolved to absolute values.

Absolute cosines differ between encoders (SigLIP's are higher than CLIP's), so a bound for one model
does not transfer to another; a percentile does. The population is the cosines of neighboring frames
within each source, to which the floor and ceiling also apply.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iclora.errors import BadInput
from iclora.filtering.similarity import DECIMALS, Cosines
from schemas.filtering import SimilarityParams

MIN_PAIRS = 8
"""Minimum number of neighboring pairs for percentiles."""


def resolve_similarity(
    cosines: Sequence[Cosines], similarity: SimilarityParams
) -> SimilarityParams:
    """Resolves similarity bounds to absolute values.

    Args:
        cosines: Cosines of neighboring frames of each source, in any order.
        similarity: Bounds to resolve; returned unchanged if the unit is absolute.

    Raises:
        BadInput: The dataset is too small or too uniform for percentiles.
    """
    if similarity.unit == "absolute":
        return similarity
    values = np.sort(np.concatenate([*cosines, np.empty(0)]))
    if len(values) == 0:  # all sets are given, so none will be formed
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
