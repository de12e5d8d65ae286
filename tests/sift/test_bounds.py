"""Percentiles become numbers, whatever the order of the sources."""

from __future__ import annotations

import numpy as np
import pytest

from iclora.errors import BadInput
from iclora.sift.bounds import MIN_PAIRS, resolve_band
from schemas.sift import BandParams

SHARES = BandParams(floor=0.1, ceiling=0.9, ends=0.05, scene=0.5, unit="percentile")
VALUES = np.round(np.linspace(0.0, 1.0, 101), 4)


def test_absolute_bounds_stay_as_they_are():
    band = BandParams(floor=0.3, ceiling=0.4)
    assert resolve_band([VALUES], band) is band


def test_percentiles_are_of_this_dataset():
    band = resolve_band([VALUES], SHARES)
    assert (band.floor, band.ceiling, band.ends, band.scene) == (0.1, 0.9, 0.05, 0.5)
    assert band.unit == "absolute"
    halved = resolve_band([VALUES / 2], SHARES)
    assert (halved.floor, halved.ceiling) == (0.05, 0.45)


def test_the_order_of_the_sources_does_not_matter():
    parts = [VALUES[:20], VALUES[20:70], VALUES[70:]]
    assert resolve_band(parts, SHARES) == resolve_band(parts[::-1], SHARES)


@pytest.mark.parametrize(("pairs", "enough"), [(MIN_PAIRS, True), (MIN_PAIRS - 1, False)])
def test_too_few_pairs_are_refused_with_a_way_out(pairs, enough):
    values = [np.linspace(0.2, 0.8, pairs)]
    if enough:
        assert resolve_band(values, SHARES).floor < resolve_band(values, SHARES).ceiling
    else:
        with pytest.raises(BadInput, match=f"{pairs} neighbouring pairs.*unit=absolute"):
            resolve_band(values, SHARES)


def test_a_uniform_dataset_is_refused():
    with pytest.raises(BadInput, match="all alike"):
        resolve_band([np.full(40, 0.7)], SHARES)


def test_nothing_to_form_needs_no_percentiles():
    assert resolve_band([np.empty(0)], SHARES) == BandParams()


def test_shares_outside_zero_to_one_are_refused():
    with pytest.raises(ValueError, match="percentiles lie between 0 and 1"):
        BandParams(floor=-0.1, unit="percentile")


def test_the_floor_must_be_below_the_ceiling():
    with pytest.raises(ValueError, match=r"floor 0.9 must be below ceiling 0.9"):
        BandParams(floor=0.9, ceiling=0.9)
