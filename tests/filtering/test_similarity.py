"""Equal pictures have near hashes, different ones do not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from iclora.filtering.similarity import hash_distance, perceptual_hash
from schemas.filtering import SetParams

NEAR = SetParams().max_hash_distance
HASHES = st.integers(0, 2**64 - 1).map(lambda bits: f"{bits:016x}")


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("L", (640, 360), 128)
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y, r = rng.integers(0, 640), rng.integers(0, 360), rng.integers(10, 120)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=int(rng.integers(0, 256)))
    return image


def hash_of(image: Image.Image) -> str:
    return perceptual_hash(np.asarray(image))


@pytest.mark.parametrize("seed", range(8))
def test_the_same_picture_smaller_and_compressed_is_near(seed):
    image = picture(seed)
    buffer = io.BytesIO()
    image.resize((320, 180)).save(buffer, "JPEG", quality=40)
    again = Image.open(buffer)
    assert hash_distance(hash_of(image), hash_of(again)) <= NEAR
    brighter = Image.eval(image, lambda value: min(255, value + 12))
    assert hash_distance(hash_of(image), hash_of(brighter)) <= NEAR


def test_different_pictures_are_far():
    hashes = [hash_of(picture(seed)) for seed in range(12)]
    pairs = [(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(hash_distance(a, b) for a, b in pairs) > 2 * NEAR


def test_a_flat_picture_has_a_hash_and_not_noise():
    one, other = np.full((90, 160), 17, np.uint8), np.full((300, 200), 201, np.uint8)
    assert perceptual_hash(one) == perceptual_hash(other)


@given(HASHES, HASHES)
def test_distance_is_a_distance(one, other):
    assert hash_distance(one, one) == 0
    assert hash_distance(one, other) == hash_distance(other, one) <= 64
    assert (hash_distance(one, other) == 0) == (one == other)
