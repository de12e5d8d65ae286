"""Canvases that are stitched already: seams to the pixel, captions as they were."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iclora.ingest.result import UnreadableInput
from iclora.ingest.seams import panel_boxes

CAPTION = "[MOVIE-SHOTS] Two friends, [SCENE-1] meet, [SCENE-2] talk, [SCENE-3] part."


def canvas(panels):
    return np.vstack(panels)


def recoded(picture, quality=90):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("L"))


@pytest.fixture
def panels(texture):
    def make(heights, width=240, seed=1):
        return [texture(seed + n, width, height) for n, height in enumerate(heights)]

    return make


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(90, 140), min_size=2, max_size=4), st.integers(0, 10_000))
def test_seams_are_found_to_the_pixel(heights, seed):
    from_conftest = [textured(seed + n, 240, height) for n, height in enumerate(heights)]
    found = panel_boxes(recoded(canvas(from_conftest)), len(heights), 1)
    ends = list(np.cumsum(heights))
    starts = [0, *ends[:-1]]
    # A row beside a seam may be given up if the encoder mixed the panels there, none may leak.
    for (_, y0, _, y1), start, end in zip(found, starts, ends, strict=True):
        assert start <= y0 <= start + 1
        assert end - 1 <= y1 <= end


def textured(seed, width, height):
    """Smooth noise with edges; no two seeds alike."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def test_a_grid_has_seams_both_ways(panels):
    left, right = panels([96, 112]), panels([96, 112], seed=9)
    grid = np.hstack([canvas(left), canvas(right)])
    assert panel_boxes(recoded(grid, 95), 2, 2) == (
        (0, 0, 240, 96),
        (240, 0, 480, 96),
        (0, 96, 240, 208),
        (240, 96, 480, 208),
    )


@pytest.mark.parametrize("colour", [0, 255])
def test_gutters_belong_to_no_panel(panels, colour):
    one, two, three = panels([100, 120, 110])
    gutter = np.full((6, 240, 3), colour, np.uint8)
    boxes = panel_boxes(recoded(canvas([one, gutter, two, gutter, three]), 95), 3, 1)
    assert [(y0, y1) for _, y0, _, y1 in boxes] == [(0, 100), (106, 226), (232, 342)]


def test_a_horizon_is_no_seam(texture):
    sky_and_sea = texture(3, 240, 120).copy()
    sky_and_sea[:60] = sky_and_sea[:60] // 2 + 120
    stack = [sky_and_sea, texture(4, 240, 120), texture(5, 240, 120)]
    boxes = panel_boxes(recoded(canvas(stack)), 3, 1)
    assert [y0 for _, y0, _, _ in boxes] == [0, 120, 240]


def test_one_picture_has_no_seams(texture):
    smooth = Image.fromarray(texture(1, 24, 36)).resize((240, 360), Image.Resampling.BICUBIC)
    with pytest.raises(UnreadableInput) as caught:
        panel_boxes(np.asarray(smooth.convert("L")), 3, 1)
    assert caught.value.reason == "seams_not_found"


@pytest.fixture
def caption_folder(tmp_path, panels):
    folder = tmp_path / "sets.v2 🎬"
    folder.mkdir()

    def add(name, caption, seed):
        picture = canvas(panels([100, 120, 110], seed=seed))
        Image.fromarray(picture).save(folder / f"{name}.jpg", quality=95)
        if caption is not None:
            (folder / f"{name}.txt").write_text(caption, encoding="utf-8")

    add("0003", CAPTION, 1)
    add("0006", "\ufeff" + CAPTION + "\n\n", 11)
    add("0007", "", 21)
    add("0008", None, 31)
    add("0009", "[MOVIE-SHOTS] café 🎬,\n[SCENE-1] a [SCENE-2] b [SCENE-3] c", 41)
    return folder


def test_each_canvas_is_one_item_and_keeps_its_caption(caption_folder, ingest):
    found = ingest(caption_folder)
    assert found.source.kind == "captioned"
    assert found.frames == ()
    assert [s.caption for s in found.given] == [
        CAPTION,
        CAPTION,
        "[MOVIE-SHOTS] café 🎬, [SCENE-1] a [SCENE-2] b [SCENE-3] c",
    ]
    assert [v.reason for v in found.verdicts] == ["", "", "empty_caption", "no_caption", ""]
    for given_set in found.given:
        assert len({frame.file for frame in given_set.frames}) == 1
        assert len({frame.id for frame in given_set.frames}) == 3
        tops = [frame.crop[1] for frame in given_set.frames]
        assert [abs(top - true) <= 1 for top, true in zip(tops, (0, 100, 220), strict=True)]


def test_keys_are_stable_and_unique(caption_folder, ingest):
    keys = [given_set.key for given_set in ingest(caption_folder).given]
    assert len(set(keys)) == 3
    assert keys == [given_set.key for given_set in ingest(caption_folder).given]


def test_a_caption_that_is_not_text_fails_alone(caption_folder, ingest):
    (caption_folder / "0003.txt").write_bytes(b"\xff\xfe\x00bad")
    (caption_folder / "0006.txt").write_text("x" * 200_000)
    reasons = [v.reason for v in ingest(caption_folder).verdicts]
    assert reasons == ["bad_caption", "bad_caption", "empty_caption", "no_caption", ""]


def test_boxes_that_a_sample_states_are_taken(caption_folder, ingest):
    stated = [[0, 0, 240, 96], [0, 128, 240, 192], [0, 224, 240, 320]]
    boxes = ",".join(f'{{"box": {box}}}' for box in stated)
    (caption_folder / "0003.json").write_text(f'{{"panels": [{boxes}]}}')
    (caption_folder / "0006.json").write_text('{"panels": [{"box": [0, 0, 9999, 1]}]}')
    first, second, _ = ingest(caption_folder).given
    assert [list(frame.crop) for frame in first.frames] == stated
    assert abs(second.frames[1].crop[1] - 100) <= 1


def test_the_published_sets(reference, ingest):
    found = ingest(reference / "movie-shots")
    assert {v.outcome for v in found.verdicts} == {"kept"}
    for given_set, true in zip(found.given, [(480, 960), (542, 1082), (477, 948)], strict=True):
        files = reference / "movie-shots"
        assert given_set.caption in {f.read_text().strip() for f in files.glob("*.txt")}
        starts = [frame.crop[1] for frame in given_set.frames[1:]]
        assert all(start - seam in (0, 1) for start, seam in zip(starts, true, strict=True))
        last = given_set.frames[2]
        (mask,) = last.masks  # the platform's capsule, 46..9 by 26..8 pixels from the corner
        x0, y0, x1, y1 = mask
        assert x0 <= last.width - 46
        assert y0 <= last.height - 25
        assert x1 >= last.width - 9
        assert y1 >= last.height - 8
        assert (x1 - x0) * (y1 - y0) < 0.002 * last.width * last.height
        assert not given_set.frames[0].masks
