from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from iclora.evaluation.pixel_metrics import measure_canvas, residue, structure
from iclora.miniature.draw import render_panel
from iclora.miniature.world import random_attributes, random_view
from schemas.layout import Layout

LAYOUT = Layout(panel_width=64, panel_height=64)
SQUARE = Layout(rows=2, columns=2, panel_width=64, panel_height=64)


def panels(rng, count=3):
    return [render_panel(random_attributes(rng), random_view(rng)) for _ in range(count)]


def canvas_of(pictures, layout=LAYOUT):
    canvas = Image.new("RGB", (layout.width, layout.height))
    for picture, box in zip(pictures, layout.boxes, strict=True):
        canvas.paste(picture, box)
    return canvas


def share_of_seams(canvases, layout=LAYOUT):
    return np.mean([measure_canvas(canvas, layout).seams for canvas in canvases])


@pytest.mark.parametrize("layout", [LAYOUT, SQUARE], ids=["column", "square"])
def test_seams_are_found_between_panels_and_not_in_one_picture(layout):
    rng = random.Random(1)
    sets = [canvas_of(panels(rng, layout.panels), layout) for _ in range(20)]
    single = [panels(rng, 1)[0].resize((layout.width, layout.height)) for _ in range(20)]
    assert share_of_seams(sets, layout) > 0.85
    assert share_of_seams(single, layout) < 0.35


def test_a_panel_glued_from_two_pictures_is_not_one_picture():
    rng = random.Random(2)
    single, glued = [], []
    for _ in range(20):
        pictures = panels(rng)
        single.append(measure_canvas(canvas_of(pictures), LAYOUT).inner)
        for picture in pictures:
            picture.paste(panels(rng, 1)[0].resize((64, 32)), (0, 32))
        glued.append(measure_canvas(canvas_of(pictures), LAYOUT).inner)
    limit = np.quantile(single, 0.98)
    assert (np.array(glued) > limit).mean() > 0.8


def test_structure_is_the_mean_of_seams_and_single_panels():
    seams, inner = np.array([1.0, 0.5, np.nan]), np.array([[1.0, 9.0], [1.0, 5.0], [np.nan] * 2])
    result = structure(seams, inner, limit=5.0)
    assert result[:2].tolist() == [0.75, 0.75]
    assert np.isnan(result[2])


@pytest.mark.parametrize("layout", [LAYOUT, SQUARE])
def test_large_canvases_are_measured_like_small_ones(layout):
    rng = random.Random(3)
    small = canvas_of(panels(rng, layout.panels), layout)
    big_layout = layout.model_copy(update={"panel_width": 512, "panel_height": 512})
    big = small.resize((big_layout.width, big_layout.height), Image.Resampling.NEAREST)
    first, second = measure_canvas(small, layout), measure_canvas(big, big_layout)
    assert second.clipping == pytest.approx(first.clipping, abs=0.02)
    assert np.allclose(first.thumbs, second.thumbs, atol=0.02)


def test_clipping_is_the_share_of_the_ends_of_the_scale():
    canvas = Image.new("RGB", (64, 192), (128, 100, 90))
    canvas.paste((255, 255, 255), (0, 0, 64, 48))
    canvas.paste((0, 0, 1), (0, 144, 64, 192))
    assert measure_canvas(canvas, LAYOUT).clipping == pytest.approx(0.5)
    canvas.paste((255, 255, 253), (0, 0, 64, 48))
    assert measure_canvas(canvas, LAYOUT).clipping == pytest.approx(0.25)


def test_flat_and_blurred_pictures_are_told_from_sharp_ones():
    canvas = canvas_of(panels(random.Random(4)))
    sharp = measure_canvas(canvas, LAYOUT)
    soft = measure_canvas(canvas.filter(ImageFilter.GaussianBlur(3)), LAYOUT)
    grey = measure_canvas(Image.new("RGB", (64, 192), (90, 90, 90)), LAYOUT)
    assert grey.flatness == 1.0
    assert sharp.flatness < 0.5
    assert grey.sharpness == 0.0
    assert soft.sharpness < sharp.sharpness - 1


def corners(canvases):
    return np.stack([measure_canvas(canvas, LAYOUT).corners for canvas in canvases])


def test_a_watermark_leaves_a_residue():
    rng = random.Random(5)
    clean = [canvas_of(panels(rng)) for _ in range(12)]
    marked = [canvas.copy() for canvas in clean]
    for canvas in marked:
        pen = ImageDraw.Draw(canvas)
        pen.text((52, 178), "XY", fill=(255, 255, 255))
        pen.rectangle((50, 176, 63, 190), outline=(0, 0, 0))
    assert residue(corners(marked)).mean() > residue(corners(clean)).mean() + 0.2


def test_two_canvases_have_no_residue():
    rng = random.Random(6)
    assert np.isnan(residue(corners([canvas_of(panels(rng)) for _ in range(2)]))).all()
    assert not np.isnan(residue(corners([canvas_of(panels(rng)) for _ in range(3)]))).any()
