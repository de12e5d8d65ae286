"""Bounds for this dataset: percentiles of its own cosines, resolved to numbers.

CLIP models differ in how similar they find anything (SigLIP's cosines are higher than CLIP's), so
a bound found with one model means nothing for another; a percentile does. The population is the
cosines of neighbouring frames of each source, which is also where the floor and ceiling apply.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iclora.errors import BadInput
from iclora.sift.similarity import DECIMALS, Cosines
from schemas.sift import BandParams

MIN_PAIRS = 8
"""Fewer neighbours say nothing about a dataset."""


def resolve_band(cosines: Sequence[Cosines], band: BandParams) -> BandParams:
    """The band in absolute numbers.

    Args:
        cosines: of each source, those of its neighbouring frames; the order does not matter.
        band: returned as it is when its unit is absolute.

    Raises:
        BadInput: the dataset is too small or too uniform for percentiles.
    """
    if band.unit == "absolute":
        return band
    values = np.sort(np.concatenate([*cosines, np.empty(0)]))
    if len(values) == 0:  # nothing will be formed: every set was given
        return BandParams()
    if len(values) < MIN_PAIRS:
        raise BadInput(
            f"{len(values)} neighbouring pairs are too few for percentiles (at least {MIN_PAIRS}): "
            "set sift.sets.band.unit=absolute with floor, ceiling, ends and scene"
        )
    floor, ceiling, ends, scene = (
        round(float(np.quantile(values, share, method="lower")), DECIMALS)
        for share in (band.floor, band.ceiling, band.ends, band.scene)
    )
    if floor >= ceiling:
        raise BadInput(
            f"the percentiles of floor and ceiling are both {floor}: the frames of this dataset "
            "are all alike; set sift.sets.band.unit=absolute"
        )
    return BandParams(floor=floor, ceiling=ceiling, ends=ends, scene=scene)
