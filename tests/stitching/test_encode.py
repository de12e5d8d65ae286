"""The same pixels, the same bytes; and no colour bleeds over a panel's border."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from iclora.stitching.canvas import encode
from schemas.stitch import StitchParams

RNG = np.random.default_rng(0)
CANVAS = RNG.integers(0, 256, (96, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_encoding_is_deterministic_and_bare(kind):
    data = encode(CANVAS, StitchParams(format=kind))
    assert data == encode(CANVAS.copy(), StitchParams(format=kind))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (64, 96)
        assert not image.getexif()
        assert "icc_profile" not in image.info


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_png_and_webp_are_lossless(kind):
    with Image.open(io.BytesIO(encode(CANVAS, StitchParams(format=kind)))) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), CANVAS)


def test_jpeg_has_full_colour_resolution_and_the_quality_asked_for():
    with Image.open(io.BytesIO(encode(CANVAS, StitchParams()))) as image:
        assert image.format == "JPEG"
        layers = image.layer
        assert {(across, down) for _, across, down, _ in layers} == {(1, 1)}
    smaller = encode(CANVAS, StitchParams(quality=50))
    assert len(smaller) < len(encode(CANVAS, StitchParams()))


def test_a_panel_does_not_change_its_neighbours_pixels():
    """Panel sides are multiples of the block size: a JPEG block never holds two panels."""
    one = np.zeros((64, 64, 3), np.uint8)
    other = one.copy()
    one[32:] = (255, 0, 0)
    other[32:] = RNG.integers(0, 256, (32, 64, 3))
    top = [
        np.asarray(Image.open(io.BytesIO(encode(canvas, StitchParams()))).convert("RGB"))[:32]
        for canvas in (one, other)
    ]
    assert np.array_equal(*top)
