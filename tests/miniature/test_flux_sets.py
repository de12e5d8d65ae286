"""What an adapter adds is measured on captions of the demo's own kind."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

from iclora.captions.lint import lint_caption
from iclora.miniature.captions import attributes_in
from iclora.miniature.recipes.flux_pool import draw_attributes
from iclora.miniature.recipes.flux_sets import caption_of, measure_sets
from iclora.miniature.world import IDENTITY, SETTING, seeded
from iclora.models.locate import locate
from iclora.presets import load_config


@pytest.fixture(scope="module")
def measured():
    """The base on a few captions."""
    pipeline: Any = FluxPipeline.from_pretrained(locate("miniature/flux").folder)
    pipeline.set_progress_bar_config(disable=True)
    return measure_sets(pipeline, 8, steps=6, true_cfg=2.5)


def test_stories_leave_looks_and_place_open_and_fit_the_base():
    config = load_config("miniature")
    for number in range(50):
        scene = draw_attributes(seeded("told", number), measuring=True)
        panels = [
            scene.model_copy(update={"shot": shot, "action": action})
            for shot, action in (("wide", "wave"), ("close", "read"), ("medium", "melon"))
        ]
        text = caption_of(panels, "story")
        assert not (IDENTITY | SETTING) & set(attributes_in(text))
        assert lint_caption(text, config.layout, config.caption) == []
        assert set(attributes_in(caption_of(panels, "looks"))) >= IDENTITY | SETTING


def test_the_base_obeys_and_does_not_know_that_panels_belong_together(measured):
    figures, pictures = measured
    assert len(pictures) == 8
    assert figures.tales["all"].value >= 0.9
    assert min(share.value for share in figures.stories.values()) >= 0.9
    assert figures.agreement["identity"].value < 0.6
    assert figures.agreement["setting"].value < 0.6
    assert (
        set(figures.agreement)
        == set(figures.control)
        == IDENTITY
        | SETTING
        | {
            "identity",
            "setting",
        }
    )
