"""A canvas falls apart into its panels exactly, and boxes are carried exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iclora.presets import load_config, preset_names
from iclora.stitching.canvas import carry_box, stitch, widest_box
from schemas.layout import PANEL_STEP, Layout, usual_markers

GRIDS = [(r, c) for r in range(1, 10) for c in range(1, 10) if 2 <= r * c <= 9]
LAYOUTS = st.builds(
    lambda grid, w, h: Layout(
        rows=grid[0], columns=grid[1], panel_width=w * PANEL_STEP, panel_height=h * PANEL_STEP
    ),
    st.sampled_from(GRIDS),
    st.integers(1, 4),
    st.integers(1, 4),
)


def random_panels(layout: Layout, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (layout.panel_height, layout.panel_width, 3)
    return [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(layout.panels)]


@settings(max_examples=80, deadline=None)
@given(layout=LAYOUTS, seed=st.integers(0, 99))
def test_the_boxes_hold_the_panels_byte_for_byte(layout, seed):
    panels = random_panels(layout, seed)
    canvas = stitch(panels, layout)
    assert canvas.shape == (layout.height, layout.width, 3)
    again = [canvas[y0:y1, x0:x1] for x0, y0, x1, y1 in layout.boxes]
    assert all(np.array_equal(*pair) for pair in zip(again, panels, strict=True))


@settings(max_examples=40, deadline=None)
@given(layout=LAYOUTS)
def test_boxes_tile_the_canvas_in_reading_order(layout):
    covered = np.zeros((layout.height, layout.width), np.int32)
    for x0, y0, x1, y1 in layout.boxes:
        assert (x0 % PANEL_STEP, y0 % PANEL_STEP) == (0, 0)
        covered[y0:y1, x0:x1] += 1
    assert (covered == 1).all()
    assert list(layout.boxes) == sorted(layout.boxes, key=lambda box: (box[1], box[0]))


def test_a_panel_of_another_size_is_refused():
    layout = Layout(rows=1, columns=2, panel_width=32, panel_height=32)
    panels = random_panels(layout, 0)
    with pytest.raises(ValueError, match="1x2 takes 2 panels"):
        stitch(panels[:1], layout)
    with pytest.raises(ValueError, match="1x2 takes 2 panels"):
        stitch([panels[0], panels[1][:16]], layout)


def test_a_box_is_carried_to_the_canvas():
    source, target = (100, 50, 300, 150), (0, 64, 64, 96)
    assert carry_box((100, 50, 300, 150), source, target) == target
    assert carry_box((200, 100, 300, 150), source, target) == (32, 80, 64, 96)
    assert carry_box((0, 0, 110, 60), source, target) == (0, 64, 4, 68)


@pytest.mark.parametrize(("left", "shown"), [(299, True), (300, False)])
def test_what_the_panel_does_not_show_is_not_carried(left, shown):
    carried = carry_box((left, 60, 400, 70), (100, 50, 300, 150), (0, 0, 64, 32))
    assert (carried is not None) is shown


@settings(max_examples=200, deadline=None)
@given(
    source=st.tuples(*[st.integers(0, 400)] * 2, *[st.integers(8, 900)] * 2),
    box=st.tuples(*[st.integers(0, 1300)] * 2, *[st.integers(1, 600)] * 2),
)
def test_a_carried_box_stays_in_its_panel_and_covers_the_region(source, box):
    source = (source[0], source[1], source[0] + source[2], source[1] + source[3])
    box = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    target = (64, 128, 192, 192)
    carried = carry_box(box, source, target)
    if carried is None:
        assert min(box[2], source[2]) <= max(box[0], source[0]) or min(box[3], source[3]) <= max(
            box[1], source[1]
        )
        return
    x0, y0, x1, y1 = carried
    assert 64 <= x0 < x1 <= 192
    assert 128 <= y0 < y1 <= 192
    across = 128 / (source[2] - source[0])
    assert x0 <= 64 + (max(box[0], source[0]) - source[0]) * across + 1e-6
    assert x1 >= 64 + (min(box[2], source[2]) - source[0]) * across - 1e-6


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(16, 4000),
    height=st.integers(16, 4000),
    panel=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_the_widest_box_fits_and_touches_two_sides(width, height, panel):
    across, down = widest_box((10, 20, 10 + width, 20 + height), *panel)
    assert 1 <= across <= width
    assert 1 <= down <= height
    assert across == width or down == height
    if min(across, down) > 1:
        error = min(
            abs(across - down * panel[0] / panel[1]), abs(down - across * panel[1] / panel[0])
        )
        assert error <= 0.5


RELEASED = {
    "couple-profile": ("1x2", 2048, 1024, 1024, 1024),
    "movie-shots": ("3x1", 1024, 1536, 1024, 512),
    "font-design": ("2x2", 1792, 1216, 896, 608),
    "home-decoration": ("2x2", 1344, 1728, 672, 864),
    "portrait-illustration": ("1x2", 1152, 1088, 576, 1088),
    "portrait-photography": ("2x2", 1344, 1728, 672, 864),
    "ppt-templates": ("2x2", 1984, 1152, 992, 576),
    "sandstorm-visual-effect": ("2x1", 1408, 1600, 1408, 800),
    "sparklers-visual-effect": ("2x1", 960, 1088, 960, 544),
    "visual-identity-design": ("1x2", 1472, 1024, 736, 1024),
}
PREFIXES = {
    "movie-shots": "[MOVIE-SHOTS]",
    "portrait-photography": "[FOUR-PANEL]",
    "sandstorm-visual-effect": "[SANDSTORM-PSA]",
    "sparklers-visual-effect": "[REAL-SPARKLERS-OVERLAYS]",
}


@pytest.mark.parametrize("task", RELEASED)
def test_the_released_tasks_are_presets(task):
    config = load_config(task)
    one = config.layout
    assert RELEASED[task] == (one.name, one.width, one.height, one.panel_width, one.panel_height)
    assert one.markers == usual_markers(one.rows, one.columns)
    assert config.caption.task == task
    assert config.caption.prefix == PREFIXES.get(task, "")
    assert config.filter.max_sets == 100


def test_every_released_task_has_its_preset():
    assert set(RELEASED) <= set(preset_names())


@pytest.mark.parametrize("grid", GRIDS)
def test_any_grid_has_usual_markers(grid):
    layout = Layout(rows=grid[0], columns=grid[1])
    assert len(set(layout.markers)) == layout.panels


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 5), (4, 3)])
def test_a_set_has_two_to_nine_panels(rows, columns):
    with pytest.raises(ValueError, match="2 to 9 panels"):
        Layout(rows=rows, columns=columns)


@pytest.mark.parametrize(("side", "fits"), [(32, True), (64, True), (48, False), (31, False)])
def test_panel_sides_are_multiples_of_32(side, fits):
    if fits:
        assert Layout(panel_width=side).panel_width == side
    else:
        with pytest.raises(ValueError, match="multiple of 32"):
            Layout(panel_width=side)
