"""Does a text fit its own panel best?"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from iclora.captioning import caption_source
from iclora.captioning.adherence import misplaced
from iclora.captioning.caption_text import parse_caption
from iclora.captioning.stage import shrunk_jpeg
from iclora.miniature.clip_folder import WEIGHTS
from iclora.pipeline.stage import result_of
from schemas.stage import Captioned

MARKERS = ("[A]", "[B]")
COLOURS = ("red", "green", "blue")
PANELS = [shrunk_jpeg(Image.new("RGB", (32, 32), colour), 32) for colour in ("red", "blue")]


class ColourEncoder:
    """Sees colours and reads their names; ``blur`` mixes them."""

    def __init__(self, blur=0.0):
        self.blur = blur

    def images(self, images):
        rows = [np.asarray(image, float).mean(axis=(0, 1)) / 255 + self.blur for image in images]
        return self.unit(rows)

    def texts(self, texts):
        self.read = texts
        return self.unit([[float(c in text) + 1e-3 for c in COLOURS] for text in texts])

    def unit(self, rows):
        array = np.array(rows, np.float32)
        return array / np.linalg.norm(array, axis=1, keepdims=True)


def panels_at_fault(text, encoder=None):
    faults = misplaced(parse_caption(text, MARKERS, ""), PANELS, encoder or ColourEncoder())
    assert all(fault.rule == "misplaced" for fault in faults)
    return [fault.panel for fault in faults]


@pytest.mark.parametrize(
    ("text", "panels"),
    [
        ("s; [A] a red wall, [B] a blue wall.", []),
        ("s; [A] a blue wall, [B] a red wall.", [1, 2]),
        ("s; [A] a blue wall, [B] a blue wall.", [1]),
        ("s; [A] a wall, [B] a wall.", []),  # a tie is no fault
    ],
)
def test_a_text_that_fits_another_panel_better_is_at_fault(text, panels):
    assert panels_at_fault(text) == panels


def test_differences_below_four_decimals_do_not_count():
    text = "s; [A] a blue wall, [B] a red wall."
    assert panels_at_fault(text, ColourEncoder(blur=1e3)) == [1, 2]
    assert panels_at_fault(text, ColourEncoder(blur=1e5)) == []


def test_names_mean_nothing_to_clip():
    encoder = ColourEncoder()
    misplaced(
        parse_caption("s; [A] <Scarlett> waves, [B] a blue wall.", MARKERS, ""), PANELS, encoder
    )
    assert encoder.read[0] == "someone waves,"


def test_the_stage_asks_clip_when_told_to(store, server, config_of, stitch, family, completion):
    config = config_of(server, check_adherence=True, attempts=1)
    config = config.model_copy(
        update={"filter": config.filter.model_copy(update={"clip": str(family / "clip")})}
    )
    stitched = stitch(store, config, ["", "", ""])
    result = result_of(store, caption_source(store, stitched, config), Captioned)
    reasons = {verdict.reason for verdict in result.verdicts}
    assert reasons <= {"", "caption_misplaced"}
    assert "caption_misplaced" in reasons  # random weights put texts anywhere


def test_other_weights_at_the_same_place_judge_again(
    store, server, config_of, stitch, family, tmp_path, completion
):
    folder = shutil.copytree(family / "clip", tmp_path / "clip")
    config = config_of(server, check_adherence=True, attempts=1)
    config = config.model_copy(
        update={"filter": config.filter.model_copy(update={"clip": str(folder)})}
    )
    stitched = stitch(store, config, ["", "", ""])
    before = caption_source(store, stitched, config)
    assert caption_source(store, stitched, config) == before
    weights = load_file(folder / WEIGHTS)
    save_file({name: -tensor for name, tensor in weights.items()}, folder / WEIGHTS)
    assert caption_source(store, stitched, config) != before
