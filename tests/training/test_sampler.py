"""Sizes keep panels whole; every sample counts alike, and AI-Toolkit's rule favors rare aspects."""

from __future__ import annotations

import io
import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from iclora.errors import BadInput
from iclora.training.sampler import BatchSampler, fit_canvas, resolution_of, seed_of
from iclora.training.samples import OUTSIDE, image_at, read_items

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


def test_every_epoch_visits_every_sample_once_in_another_order():
    order = BatchSampler(list("abcdefgh"), seed=1)
    walk = [draw.key for step in range(8) for draw in order.batch(step, 2)]
    assert sorted(walk[:8]) == sorted(walk[8:]) == list("abcdefgh")
    assert walk[:8] != walk[8:]


def test_order_depends_on_step_and_seed_only():
    keys = [f"k{n}" for n in range(11)]
    one, two = BatchSampler(keys, seed=1), BatchSampler(keys[::-1], seed=1)
    assert one.batch(9, 4) == two.batch(9, 4)
    assert [one.batch(step, 4) for step in (7, 3)][1] == two.batch(3, 4)
    assert one.batch(0, 11) != BatchSampler(keys, seed=2).batch(0, 11)


def test_a_key_twice_in_a_batch_gets_two_turns():
    batch = BatchSampler(["a", "b"], seed=0).batch(0, 5)
    assert Counter(draw.key for draw in batch).most_common()[0][1] >= 2
    assert len(set(batch)) == 5


def test_resolutions_are_visited_alike():
    seen = Counter(resolution_of(RESOLUTIONS, 42, step) for step in range(5000))
    assert all(900 < count < 1100 for count in seen.values())
    assert seed_of(1, "a") != seed_of(1, "b")


PANEL = st.integers(2, 60).map(lambda n: n * 16)


@given(
    heights=st.lists(PANEL, min_size=1, max_size=5),
    widths=st.lists(PANEL, min_size=1, max_size=3),
    resolution=st.integers(200, 2000),
)
def test_panels_stay_whole_and_fall_on_tokens(heights, widths, resolution):
    xs, ys = [0, *itertools.accumulate(widths)], [0, *itertools.accumulate(heights)]
    boxes = [
        (x0, y0, x1, y1) for y0, y1 in itertools.pairwise(ys) for x0, x1 in itertools.pairwise(xs)
    ]
    try:
        fit = fit_canvas((xs[-1], ys[-1]), boxes, resolution=resolution, step=16)
    except BadInput:
        scale = resolution / (xs[-1] * ys[-1]) ** 0.5
        assert min(*widths, *heights) * scale <= 8
        return
    assert fit.width <= xs[-1]
    assert fit.height <= ys[-1]
    small = [fit.box(box) for box in boxes]
    assert all(edge % 16 == 0 for box in small for edge in box)
    assert sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in small) == fit.width * fit.height


def test_a_canvas_is_never_enlarged_and_hits_the_area():
    boxes = [(0, 512 * i, 1024, 512 * (i + 1)) for i in range(3)]
    native = fit_canvas((1024, 1536), boxes, resolution=4096, step=16)
    assert (native.width, native.height) == (1024, 1536)
    half = fit_canvas((1024, 1536), boxes, resolution=512, step=16)
    assert (half.width, half.height) == (416, 624)
    with pytest.raises(BadInput, match="smaller than a token"):
        fit_canvas((1024, 1536), boxes, resolution=4, step=16)


def test_seams_do_not_bleed_and_masks_cover_their_tokens(paint):
    sample = paint(1, heights=(64, 64, 64), width=64, masks=[(33, 0, 40, 3)])
    (item,) = read_items([sample], [56], step=8)
    view = item.views[56]
    assert (view.fit.width, view.fit.height, tuple(view.grid)) == (32, 96, (12, 4))
    rows = view.panel_of.reshape(view.grid)
    assert [set(rows[r]) for r in (0, 3, 4, 11)] == [{0}, {0}, {1}, {2}]
    assert np.argwhere(~view.learn.reshape(view.grid)).tolist() == [[0, 2]]

    red, blue = Image.new("RGB", (64, 192), (255, 0, 0)), Image.new("RGB", (64, 64), (0, 0, 255))
    red.paste(blue, (0, 64))
    buffer = io.BytesIO()
    red.save(buffer, format="PNG")
    pixels = image_at(buffer.getvalue(), sample.record, view.fit)
    assert pixels.shape == (3, 96, 32)
    assert pixels[0, 31].tolist() == [1.0] * 32
    assert pixels[0, 32].tolist() == [-1.0] * 32


def test_a_gutter_belongs_to_no_panel(paint):
    record = paint(1, heights=(32, 16, 32)).record
    middle_gone = record.model_copy(update={"panels": (record.panels[0], record.panels[2])})
    sample = paint(1, heights=(32, 16, 32))._replace(record=middle_gone)
    (item,) = read_items([sample], [1000], step=8)
    panels = item.views[1000].panel_of.reshape(item.views[1000].grid)[:, 0].tolist()
    assert panels == [0] * 4 + [OUTSIDE] * 2 + [1] * 4


def test_a_picture_that_is_not_its_record_is_refused(paint):
    sample = paint(1)
    (item,) = read_items([sample], [1000], step=8)
    other = paint(1, width=64).image
    with pytest.raises(BadInput, match="iclora verify"):
        image_at(other, sample.record, item.views[1000].fit)
