"""Sizes keep panels whole; samples count equally."""

from __future__ import annotations

import io
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from iclora.errors import BadInput
from iclora.training.sampler import BatchSampler, fit_canvas, resolution_of, seed_of
from iclora.training.samples import OUTSIDE, image_at, read_items

# Ten canvases with the spread of the published set: 1080 px wide, eight alike, two odd.
ALIKE = (1407, 1410, 1415, 1433, 1446, 1447, 1455, 1466)
SIZES = {f"alike-{height}": (1080, height) for height in ALIKE}
SIZES |= {"odd-flat": (1080, 1363), "odd-tall": (1080, 1620)}
RESOLUTIONS = (512, 768, 1024, 1280, 1536)


def toolkit_bucket(size, resolution, divisible=32):
    """AI-Toolkit's bucket: sides floored or ceiled, within the area, closest to it."""
    width, height = size
    target = min(width * height, resolution**2)
    scale = (target / (width * height)) ** 0.5
    sides = [
        {int(s * scale // divisible) * divisible, -int(-s * scale // divisible) * divisible}
        for s in size
    ]
    fitting = [pair for pair in itertools.product(*sides) if pair[0] * pair[1] <= resolution**2]
    return min(fitting, key=lambda pair: abs(pair[0] * pair[1] - target))


def toolkit_slots(batch):
    """Slots an epoch: batches within a bucket, the last one filled up by repetition."""
    slots = Counter()
    for resolution in RESOLUTIONS:
        buckets = {}
        for key, size in SIZES.items():
            buckets.setdefault(toolkit_bucket(size, resolution), []).append(key)
        for keys in buckets.values():
            padded = -(-len(keys) // batch) * batch
            slots.update(itertools.islice(itertools.cycle(keys), padded))
    return slots


def share(slots, keys):
    return sum(slots[key] for key in keys) / sum(slots.values())


def test_two_odd_canvases_are_a_fifth_of_the_gradient_not_nearly_half():
    odd = ["odd-flat", "odd-tall"]
    theirs = toolkit_slots(4)
    assert sum(theirs.values()) == 88
    assert share(theirs, odd) == pytest.approx(0.45, abs=0.01)
    order = BatchSampler(list(SIZES), seed=42)
    ours = Counter(draw.key for step in range(500) for draw in order.batch(step, 4))
    assert share(ours, odd) == pytest.approx(0.20, abs=0.01)
    assert max(ours.values()) - min(ours.values()) <= 1


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
