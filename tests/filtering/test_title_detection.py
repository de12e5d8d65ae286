"""Lettering that was put over a picture is told from everything that was filmed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from iclora.filtering.checks.title import large_lettering, title_share
from iclora.filtering.text_detection import detect_text
from schemas.filtering import QualityParams

LIMIT = QualityParams().max_title


def scenery(seed: int, width: int = 854, height: int = 480) -> Image.Image:
    rng = np.random.default_rng(seed)
    rough = rng.integers(30, 215, (7, 12), dtype=np.uint8)
    picture = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        x, y, r = int(rng.integers(0, width)), int(rng.integers(0, height)), rng.integers(4, 40)
        cv2.circle(picture, (x, y), int(r), int(rng.integers(20, 225)), -1, cv2.LINE_AA)
    noisy = cv2.GaussianBlur(picture, (0, 0), 1.2) + rng.normal(0, 3, picture.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def titled(seed: int, lines: list[str], size: int) -> np.ndarray:
    image = scenery(seed)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for number, line in enumerate(lines):
        left = (image.width - draw.textlength(line, font)) / 2
        draw.text((left, 140 + number * size * 1.2), line, 252, font)
    return np.asarray(image)


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        (["THE OPEN MOVIE PROJECT", "PRESENTS"], 26),
        (["a film by Ann and Ben", "music by the city"], 34),
        (["WINTER", "CITY"], 110),
        (["The Long Night"], 80),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_a_title_over_a_picture_is_found(image_of, seed, lines, size):
    assert title_share(image_of(titled(seed, lines, size))) > LIMIT


@pytest.mark.parametrize("seed", range(8))
def test_a_picture_without_one_has_none(image_of, seed):
    assert title_share(image_of(np.asarray(scenery(seed)))) <= LIMIT


def test_what_is_masked_does_not_count(image_of):
    luma = titled(1, ["THE OPEN MOVIE PROJECT"], 26)
    masked = np.zeros(luma.shape, np.bool_)
    masked[130:180] = True
    assert title_share(image_of(luma, masked)) == 0.0


def test_white_shapes_are_no_letters():
    image = scenery(2).point(lambda tone: tone // 2)
    draw = ImageDraw.Draw(image)
    for x in (100, 300, 500):  # three windows have six sides, a word has at least twelve
        draw.rectangle((x, 200, x + 90, 300), fill=252)
    assert large_lettering(detect_text(np.asarray(image)).picture) == []
    for x in (180, 240, 400, 440, 600, 640):
        draw.rectangle((x + 15, 200, x + 35, 300), fill=252)
    assert large_lettering(detect_text(np.asarray(image)).picture) != []


def test_real_titles_are_found_and_nothing_else(image_of, footage):
    import av

    titles: dict[str, list[int]] = {}
    for name in ("big-buck-bunny-30s.mp4", "sintel-26s.mp4"):
        with av.open(str(footage / name)) as film:
            for number, frame in enumerate(film.decode(video=0)):
                if number % 24 == 0:
                    luma = cv2.cvtColor(frame.to_ndarray(format="rgb24"), cv2.COLOR_RGB2GRAY)
                    if title_share(image_of(np.asarray(luma, np.uint8))) > LIMIT:
                        titles.setdefault(name, []).append(number)
    # "The Peach Open Movie Project presents" stands from 490 to 555, the name from 630 to 690.
    assert titles == {"big-buck-bunny-30s.mp4": [504, 528, 552, 648, 672]}
