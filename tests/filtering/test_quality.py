"""Every threshold on a frame, on both of its sides, and the pictures that should fail it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from iclora.errors import BadConfig
from iclora.filtering import checks
from iclora.filtering.checks import (
    Limit,
    QualityCheck,
    measure_quality,
    quality_checks,
    quality_score,
    quality_thresholds,
)
from iclora.filtering.checks.entropy import entropy
from iclora.filtering.checks.sharpness import sharpness
from iclora.filtering.frame_image import ANALYSIS_SIDE, UndecodableFrame, load_frame_image
from schemas.filtering import QualityParams
from schemas.frame import Frame

GOOD = {
    "side": 512.0,
    "luma": 0.5,
    "sharpness": 300.0,
    "entropy": 7.0,
    "text": 0.0,
    "title": 0.0,
    "merit": 0.8,
}


def scenery(width: int = 640, height: int = 360, seed: int = 0) -> Image.Image:
    """A picture like a landscape: gradients, blobs of many sizes, some grain."""
    rng = np.random.default_rng(seed)
    rows = np.linspace(200, 60, height)[:, None, None]
    image = Image.fromarray(np.broadcast_to(rows, (height, width, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(120):
        x, y, r = rng.integers(0, width), rng.integers(0, height), rng.integers(4, 60)
        colour = tuple(int(c) for c in rng.integers(20, 235, 3))
        draw.ellipse((x - r, y - r, x + r, y + r // 2), fill=colour)
    grain = rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def credits_card(ink: int = 240, paper: int = 5) -> Image.Image:
    image = Image.new("RGB", (854, 480), (paper, paper, paper))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(24)
    lines = ["Directed by Ann Lee", "Produced by Sam Ray", "Music by the City Band"] * 3
    for number, line in enumerate(lines):
        draw.text((220, 40 + 44 * number), line, (ink, ink, ink), font)
    return image


def frame_of(image: Image.Image, **changes: object) -> Frame:
    facts = {
        "id": "f",
        "source": "s",
        "file": "f.png",
        "content": "c",
        "width": image.width,
        "height": image.height,
        "crop": (0, 0, image.width, image.height),
    }
    return Frame(**(facts | changes))


DEFAULTS = QualityParams()


def quality_rejection(scores: dict[str, float], params: QualityParams = DEFAULTS):
    return checks.quality_rejection(scores, quality_thresholds(params))


def scores_of(image: Image.Image, folder: Path, **changes: object) -> dict[str, float]:
    path = folder / "f.png"
    image.save(path)
    frame = frame_of(image, **changes)
    return measure_quality(load_frame_image(path, frame, 224))


def test_a_good_frame_has_no_fault(tmp_path):
    assert quality_rejection(scores_of(scenery(), tmp_path)) is None


@pytest.mark.parametrize(
    ("reason", "name", "threshold", "step"),
    [
        ("too_small", "side", 256.0, -1.0),
        ("black", "luma", 0.06, -0.0001),
        ("blown", "luma", 0.94, 0.0001),
        ("low_information", "entropy", 3.0, -0.0001),
        ("mostly_text", "text", 0.35, 0.0001),
        ("title", "title", 0.01, 0.0001),
        ("blurred", "sharpness", 20.0, -0.0001),
    ],
)
def test_a_threshold_passes_itself_and_refuses_what_is_just_past_it(reason, name, threshold, step):
    assert quality_rejection(GOOD | {name: threshold}) is None
    fault = quality_rejection(GOOD | {name: round(threshold + step, 4)})
    assert fault is not None
    assert (fault.reason, fault.threshold) == (reason, threshold)
    assert fault.value == round(threshold + step, 4)


@pytest.mark.parametrize(
    ("reason", "image"),
    [
        ("black", Image.new("RGB", (640, 360), (9, 9, 9))),
        ("blown", Image.new("RGB", (640, 360), (250, 250, 250))),
        ("low_information", Image.new("RGB", (640, 360), (90, 120, 90))),
        ("blurred", scenery().filter(ImageFilter.GaussianBlur(12))),
        ("too_small", scenery(400, 200)),
    ],
)
def test_a_bad_picture_is_refused_for_what_is_bad(reason, image, tmp_path):
    fault = quality_rejection(scores_of(image, tmp_path))
    assert fault is not None
    assert fault.reason == reason


def test_credits_are_refused_and_not_only_because_they_are_dark(tmp_path):
    grey_card = scores_of(credits_card(ink=250, paper=90), tmp_path)
    assert grey_card["text"] > 0.9
    lenient = QualityParams(min_entropy=0.0)
    fault = quality_rejection(grey_card, lenient)
    assert fault is not None
    assert fault.reason == "mostly_text"


def test_bars_are_not_measured(tmp_path):
    image = Image.new("RGB", (640, 480))
    image.paste(scenery(), (0, 60))
    with_bars = scores_of(image, tmp_path)
    cropped = scores_of(image, tmp_path, crop=(0, 60, 640, 420))
    bare = scores_of(scenery(), tmp_path)
    assert cropped == bare
    assert with_bars["luma"] < bare["luma"]


def test_sharpness_is_the_variance_of_the_laplacian(image_of):
    luma = np.zeros((9, 9), np.uint8)
    luma[4, 4] = 100
    around = np.zeros(81)
    around[0] = -400.0
    around[1:5] = 100.0
    assert sharpness(image_of(luma)) == around.var()


def test_entropy_counts_grey_levels(image_of):
    assert entropy(image_of(np.zeros((8, 8), np.uint8))) == 0.0
    assert entropy(image_of(np.repeat(np.arange(4, dtype=np.uint8), 16).reshape(8, 8))) == 2.0
    assert entropy(image_of(np.arange(256, dtype=np.uint8).reshape(16, 16))) == 8.0


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [("sharpness", 300.0, 50.0), ("entropy", 7.0, 4.0), ("luma", 0.5, 0.9), ("text", 0.0, 0.3)],
)
def test_merit_falls_with_every_measurement(name, better, worse):
    assert quality_score(GOOD | {name: worse}) < quality_score(GOOD | {name: better}) < 1


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> QualityCheck:
    """A check with its own setting, as another module of the package would add it."""
    check = QualityCheck("grain", lambda _: 1.0, (Limit("grainy", "max_grain", 2.0),))
    registered = (*quality_checks(), check)
    monkeypatch.setattr(checks, "quality_checks", lambda: registered)
    return check


@pytest.mark.parametrize(("extra", "threshold"), [({}, 2.0), ({"max_grain": 1.5}, 1.5)])
def test_an_added_check_has_its_own_threshold(added, extra, threshold):
    params = QualityParams(extra=extra)
    assert quality_rejection(GOOD | {"grain": threshold}, params) is None
    fault = quality_rejection(GOOD | {"grain": threshold + 0.1}, params)
    assert fault == ("grainy", threshold + 0.1, threshold, "")
    black = quality_rejection(GOOD | {"grain": threshold + 0.1, "luma": 0.0}, params)
    assert black.reason == "black", "built-in checks come first"


def test_a_threshold_of_no_check_is_told(added):
    with pytest.raises(BadConfig, match=r"extra\.max_grian; known are max_grain"):
        quality_thresholds(QualityParams(extra={"max_grian": 1.0}))


def test_a_threshold_of_a_built_in_check_is_no_extra_one():
    with pytest.raises(BadConfig, match=r"unknown key filter\.quality\.extra\.max_luma"):
        quality_thresholds(QualityParams(extra={"max_luma": 0.5}))


def test_a_reduced_decode_measures_nearly_the_same(tmp_path):
    image = scenery(2048, 1152)
    image.save(tmp_path / "f.jpg", quality=95)
    frame = frame_of(image, file="f.jpg")
    quick = load_frame_image(tmp_path / "f.jpg", frame, 224)
    assert quick.picture.size == (512, 288)
    image.save(tmp_path / "f.png")
    full = load_frame_image(tmp_path / "f.png", frame, 224)
    assert full.picture.size == image.size
    assert quick.luma.shape == full.luma.shape
    assert np.abs(quick.luma.astype(int) - full.luma).mean() < 2


def test_a_model_gets_as_many_pixels_as_it_looks_at(tmp_path):
    image = scenery(2400, 400)
    image.save(tmp_path / "f.jpg", quality=95)
    look = load_frame_image(tmp_path / "f.jpg", frame_of(image, file="f.jpg"), 224)
    assert min(look.picture.size) >= 224
    assert max(look.luma.shape) == ANALYSIS_SIDE


def test_a_cut_off_file_is_unreadable(tmp_path):
    path = tmp_path / "f.jpg"
    scenery().save(path, quality=95)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UndecodableFrame):
        load_frame_image(path, frame_of(scenery()), 224)


def test_another_picture_under_the_same_name_is_unreadable(tmp_path):
    scenery(320, 180).save(tmp_path / "f.png")
    with pytest.raises(UndecodableFrame, match="320"):
        load_frame_image(tmp_path / "f.png", frame_of(scenery()), 224)


def test_masked_overlays_are_not_counted_as_text(tmp_path):
    image = Image.fromarray(np.full((360, 640, 3), 120, np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((100, 60, 300, 200), fill=(30, 30, 30))
    draw.text((200, 300), "A subtitle of many words", (250, 250, 250), ImageFont.load_default(28))
    plain = scores_of(image, tmp_path)
    masked = scores_of(image, tmp_path, masks=((180, 290, 600, 345),))
    assert plain["text"] > 0.5
    assert masked["text"] == 0.0
