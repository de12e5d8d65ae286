"""The crop goes where something is, and never through a head."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclora.stitching.crop import head_box, place_crop
from iclora.stitching.saliency import saliency


def plain(width: int, height: int, *spots: tuple[int, int]) -> np.ndarray:
    """A smooth picture with small bright things at these places."""
    rows = np.linspace(90, 110, height)[:, None, None]
    pixels = np.broadcast_to(rows, (height, width, 3)).astype(np.uint8).copy()
    for x, y in spots:
        pixels[y - 12 : y + 12, x - 12 : x + 12] = (250, 220, 40)
    return pixels


@pytest.mark.parametrize("x", [60, 320, 580])
def test_a_wide_frame_is_cropped_around_what_stands_out(x):
    pixels = plain(640, 200, (x, 100))
    box = place_crop(pixels, (0, 0, 640, 200), (64, 64)).box
    assert (box[2] - box[0], box[3] - box[1]) == (200, 200)
    assert box[0] <= x - 12
    assert x + 12 <= box[2]


@pytest.mark.parametrize("y", [60, 320, 580])
def test_a_tall_frame_too(y):
    pixels = plain(200, 640, (100, y))
    box = place_crop(pixels, (0, 0, 200, 640), (64, 64)).box
    assert box[1] <= y - 12
    assert y + 12 <= box[3]


def test_the_centre_is_taken_where_nothing_stands_out_or_when_asked():
    flat = np.full((200, 640, 3), 90, np.uint8)
    assert place_crop(flat, (0, 0, 640, 200), (64, 64)).box == (220, 0, 420, 200)
    busy = plain(640, 200, (60, 100))
    centre = place_crop(busy, (0, 0, 640, 200), (64, 64), salient=False).box
    assert centre == (220, 0, 420, 200)


def test_only_the_region_that_is_picture_is_shown():
    pixels = plain(640, 480, (60, 240))
    box = place_crop(pixels, (0, 60, 640, 420), (128, 64)).box
    assert box == (0, 80, 640, 400)


def test_a_frame_of_the_panels_aspect_is_shown_whole():
    assert place_crop(plain(640, 320), (0, 0, 640, 320), (128, 64)).box == (0, 0, 640, 320)


def test_a_head_is_shown_whole_even_away_from_what_stands_out():
    pixels = plain(640, 200, (600, 100))
    head = (150, 20, 230, 140)
    window = place_crop(pixels, (0, 0, 640, 200), (64, 64), heads=[head])
    assert window.heads_cut == 0
    assert window.box[0] <= 150
    assert window.box[2] >= 230


def test_a_head_that_cannot_be_shown_with_another_is_left_out_whole():
    pixels = plain(640, 200)
    heads = [(10, 20, 130, 140), (250, 20, 370, 140)]
    window = place_crop(pixels, (0, 0, 640, 200), (64, 64), heads=heads)
    assert window.heads_cut == 0
    for left, _, right, _ in heads:
        shown = min(right, window.box[2]) - max(left, window.box[0])
        assert shown <= 0 or shown == right - left


def test_a_head_wider_than_the_window_is_left_out_where_that_is_possible():
    pixels = plain(640, 200, (300, 100))
    window = place_crop(pixels, (0, 0, 640, 200), (64, 64), heads=[(300, 0, 520, 200)])
    assert window.heads_cut == 0
    assert window.box[2] <= 300


@pytest.mark.parametrize(("width", "cut"), [(200, 0), (201, 1)])
def test_a_head_wider_than_the_window_is_cut_wherever_it_goes(width, cut):
    head = (220, 0, 220 + width, 200)
    window = place_crop(
        plain(440 + width - 200, 200), (220, 0, 220 + width, 200), (64, 64), heads=[head]
    )
    assert window.heads_cut == cut


def test_a_head_is_more_than_its_face():
    assert head_box((100, 100, 200, 200)) == (80, 50, 220, 215)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(40, 300), st.integers(40, 300)),
    panel=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    head=st.tuples(st.integers(0, 250), st.integers(0, 250), st.integers(5, 40)),
)
def test_the_crop_lies_inside_and_counts_its_cuts(size, panel, head):
    width, height = size
    x, y, side = head
    box = (x, y, x + side, y + side)
    pixels = np.zeros((height, width, 3), np.uint8)
    region = (0, 0, width, height)
    window = place_crop(pixels, region, (panel[0] * 32, panel[1] * 32), heads=[box])
    x0, y0, x1, y1 = window.box
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height


def test_saliency_is_a_share_and_finds_the_odd_one_out():
    luma = plain(640, 360, (480, 90))[:, :, 0]
    found = saliency(luma)
    assert found.shape == (64, 64)
    assert found.sum() == pytest.approx(1, abs=1e-4)
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    assert abs(column - 48) <= 3
    assert abs(row - 16) <= 3


def test_a_flat_picture_has_nothing_salient():
    assert not saliency(np.full((90, 160), 128, np.uint8)).any()
