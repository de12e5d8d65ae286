"""Every sample counts alike, whatever its bucket; AI-Toolkit's rule favours rare aspects."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import pytest

from iclora.training.sampler import BatchSampler, resolution_of

SIZES = {
    **{f"common-{n}": (1080, height) for n, height in enumerate([1386] * 4 + [1423, 1440] * 2)},
    "odd-1": (1080, 1363),
    "odd-2": (1080, 1620),
}
"""Ten canvases with the spread of aspects of the published movie-shots sets."""

RESOLUTIONS = (512, 768, 1024, 1280, 1536)
BATCH = 4


def their_bucket(width, height, resolution, step=32):
    """AI-Toolkit's: each side cut or filled up to the step; the nearest area that is allowed."""
    target = min(width * height, resolution**2)
    scale = math.sqrt(target / (width * height))
    sides = [
        [round_(side * scale / step) * step for round_ in (math.floor, math.ceil)]
        for side in (width, height)
    ]
    allowed = [(w, h) for w in sides[0] for h in sides[1] if w * h <= resolution**2]
    return min(allowed, key=lambda size: abs(size[0] * size[1] - target))


def their_slots():
    """Places in the batches of one epoch: buckets are filled up by repeating their samples."""
    slots = Counter()
    for resolution in RESOLUTIONS:
        buckets = defaultdict(list)
        for key, size in SIZES.items():
            buckets[their_bucket(*size, resolution)].append(key)
        for keys in buckets.values():
            places = math.ceil(len(keys) / BATCH) * BATCH
            slots.update(keys[place % len(keys)] for place in range(places))
    return slots


def share(slots):
    return (slots["odd-1"] + slots["odd-2"]) / slots.total()


def test_two_of_ten_get_45_percent_of_ai_toolkits_gradient():
    slots = their_slots()
    assert slots.total() == 88
    assert share(slots) == pytest.approx(0.4545, abs=1e-3)


@pytest.mark.parametrize("batch", [1, 4, 7, 16])
def test_and_20_percent_of_ours(batch):
    order, slots = BatchSampler(list(SIZES), seed=42), Counter()
    by_resolution = defaultdict(Counter)
    for step in range(2000 // batch):
        keys = [draw.key for draw in order.batch(step, batch)]
        assert len(keys) == batch  # each is one of `batch` equal parts of the gradient
        slots.update(keys)
        by_resolution[resolution_of(RESOLUTIONS, 42, step)].update(keys)
    assert share(slots) == pytest.approx(0.20, abs=0.01)
    assert max(slots.values()) - min(slots.values()) <= 1
    assert set(by_resolution) == set(RESOLUTIONS)
    for seen in by_resolution.values():
        assert share(seen) == pytest.approx(0.20, abs=0.05)
