"""Lettering is told from scenery, whatever its size, case and colour."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from iclora.filtering.checks.text import text_share
from iclora.filtering.text_detection import detect_text
from schemas.filtering import QualityParams

LIMIT = QualityParams().max_text


def card(lines: list[str], size: int, ink: int, paper: int, scale: int = 512) -> np.ndarray:
    image = Image.new("L", (854, 480), paper)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size)
    top = 240 - len(lines) * size * 0.75
    for number, line in enumerate(lines):
        left = (854 - draw.textlength(line, font)) / 2
        draw.text((left, top + number * size * 1.5), line, ink, font)
    image.thumbnail((scale, scale), Image.Resampling.BOX)
    return np.asarray(image)


@pytest.mark.parametrize(("ink", "paper"), [(245, 8), (20, 230), (235, 110)])
@pytest.mark.parametrize("size", [22, 34, 72])
@pytest.mark.parametrize("case", [str.upper, str.title])
def test_cards_and_credits_are_text(image_of, case, size, ink, paper):
    lines = [case("the winter city"), case("by ann and sam")]
    lines = lines * 4 if size == 22 else lines
    assert text_share(image_of(card(lines, size, ink, paper))) > LIMIT


def rng_picture(kind: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return rng.integers(0, 256, (288, 512)).astype(np.uint8)
    if kind == "grass":
        return np.asarray(
            Image.fromarray(rng.integers(40, 220, (36, 512)).astype(np.uint8)).resize((512, 288))
        )
    if kind == "windows":
        image = Image.new("L", (512, 288), 60)
        draw = ImageDraw.Draw(image)
        for x in range(20, 500, 30):
            for y in range(20, 270, 40):
                draw.rectangle((x, y, x + 16, y + 24), fill=int(rng.integers(120, 250)))
        return np.asarray(image)
    image = Image.new("L", (512, 288), 128)
    draw = ImageDraw.Draw(image)
    for _ in range(200):
        x, y, r = rng.integers(0, 512), rng.integers(0, 288), rng.integers(3, 30)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=int(rng.integers(0, 256)))
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["noise", "grass", "windows", "blobs"])
@pytest.mark.parametrize("seed", [0, 1])
def test_textures_are_not_text(image_of, kind, seed):
    assert text_share(image_of(rng_picture(kind, seed))) < LIMIT


def test_a_flat_picture_has_no_text(image_of):
    assert text_share(image_of(np.full((288, 512), 77, np.uint8))) == 0.0


def test_a_line_is_found_where_it_is():
    luma = card(["WINTER CITY NIGHT"], 40, 240, 20)
    ys, xs = np.nonzero(luma > 120)
    boxes = [line.box for line in detect_text(luma).lines]
    assert boxes
    assert min(box[0] for box in boxes) <= xs.min() + 2
    assert max(box[2] for box in boxes) >= xs.max() - 2
    assert min(box[1] for box in boxes) >= ys.min() - 4
    assert max(box[3] for box in boxes) <= ys.max() + 5


def test_real_film_is_not_text(image_of, footage):
    import av

    shares: list[float] = []
    for name in ("big-buck-bunny-30s.mp4", "sintel-26s.mp4"):
        with av.open(str(footage / name)) as film:
            film.streams.video[0].codec_context.skip_frame = "NONKEY"
            for picture in film.decode(video=0):
                image = picture.to_image().convert("L")
                image.thumbnail((512, 512), Image.Resampling.BOX)
                shares.append(text_share(image_of(np.asarray(image))))
    assert len(shares) >= 6
    assert max(shares) < LIMIT


@pytest.mark.parametrize("seed", [740001, 740007, 741003])
def test_strokes_that_meet_in_corners_are_one_letter(image_of, seed):
    """Film-world titles with an O and an S: their strokes touch only diagonally."""
    from iclora.miniature.film import film_frame
    from iclora.miniature.script import film_script

    film = film_script(seed)
    (shot,) = [shot for shot in film.shots if shot.kind == "title"]
    luma = np.asarray(film_frame(film, shot, shot.frames // 2).convert("L"))
    assert text_share(image_of(luma[film.bar : 192 - film.bar].copy())) > LIMIT
