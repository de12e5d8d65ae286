"""Percentiles become numbers, whatever the order of the sources."""

from __future__ import annotations

import numpy as np
import pytest

from iclora.errors import BadInput
from iclora.filtering.thresholds import MIN_PAIRS, resolve_similarity
from schemas.filtering import SimilarityParams

SHARES = SimilarityParams(
    min_adjacent=0.1, near_duplicate=0.9, min_first_last=0.05, same_scene=0.5, unit="percentile"
)
VALUES = np.round(np.linspace(0.0, 1.0, 101), 4)


def test_percentiles_are_of_this_dataset():
    band = resolve_similarity([VALUES], SHARES)
    assert (band.min_adjacent, band.near_duplicate, band.min_first_last, band.same_scene) == (
        0.1,
        0.9,
        0.05,
        0.5,
    )
    assert band.unit == "absolute"
    halved = resolve_similarity([VALUES / 2], SHARES)
    assert (halved.min_adjacent, halved.near_duplicate) == (0.05, 0.45)


def test_the_order_of_the_sources_does_not_matter():
    parts = [VALUES[:20], VALUES[20:70], VALUES[70:]]
    assert resolve_similarity(parts, SHARES) == resolve_similarity(parts[::-1], SHARES)


@pytest.mark.parametrize(("pairs", "enough"), [(MIN_PAIRS, True), (MIN_PAIRS - 1, False)])
def test_too_few_pairs_are_refused_with_a_way_out(pairs, enough):
    values = [np.linspace(0.2, 0.8, pairs)]
    if enough:
        assert (
            resolve_similarity(values, SHARES).min_adjacent
            < resolve_similarity(values, SHARES).near_duplicate
        )
    else:
        with pytest.raises(BadInput, match=f"{pairs} neighbouring pairs.*unit=absolute"):
            resolve_similarity(values, SHARES)


def test_a_uniform_dataset_is_refused():
    with pytest.raises(BadInput, match="all alike"):
        resolve_similarity([np.full(40, 0.7)], SHARES)


def test_nothing_to_form_needs_no_percentiles():
    assert resolve_similarity([np.empty(0)], SHARES) == SimilarityParams()


def test_shares_outside_zero_to_one_are_refused():
    with pytest.raises(ValueError, match="percentiles lie between 0 and 1"):
        SimilarityParams(min_adjacent=-0.1, unit="percentile")


def test_the_floor_must_be_below_the_ceiling():
    with pytest.raises(ValueError, match=r"min_adjacent 0.9 must be below 0.9"):
        SimilarityParams(min_adjacent=0.9, near_duplicate=0.9)
