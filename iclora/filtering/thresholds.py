"""Similarity bounds of a dataset: percentiles of its own cosines, resolved to absolute values.

Absolute cosines differ between encoders (SigLIP's are higher than CLIP's), so a bound for one model
does not transfer to another; a percentile does. The population is the cosines of neighboring frames
within each source, to which the floor and ceiling also apply.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iclora.errors import BadInput
from iclora.filtering.sets import load_embeddings, ungrouped_indices
from iclora.filtering.similarity import DECIMALS, Cosines, neighbor_cosines
from iclora.pipeline.stage import result_of
from iclora.store import Store
from schemas.config import Config
from schemas.filtering import SimilarityParams
from schemas.stage import Scored, StageRef

MIN_PAIRS = 8
"""Minimum number of neighboring pairs for percentiles."""


def calibrate(store: Store, scored: Sequence[StageRef], config: Config) -> SimilarityParams:
    """Resolves a build's similarity bounds to absolute values, regardless of source order.

    Raises:
        BadInput: The dataset is too small or too uniform for percentiles.
    """
    similarity = config.filter.sets.similarity
    if similarity.unit == "absolute":
        return similarity
    cosines: list[Cosines] = []
    for ref in scored:
        source = result_of(store, ref, Scored)
        rows = load_embeddings(store, ref, source)
        cosines.append(neighbor_cosines(rows[ungrouped_indices(source)]))
    return resolve_similarity(cosines, similarity)


def resolve_similarity(
    cosines: Sequence[Cosines], similarity: SimilarityParams
) -> SimilarityParams:
    """Resolves similarity bounds to absolute values.

    Args:
        cosines: Cosines of neighboring frames of each source, in any order.
        similarity: Bounds to resolve, as percentiles.

    Raises:
        BadInput: The dataset is too small or too uniform for percentiles.
    """
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
