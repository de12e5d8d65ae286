"""What an adapter adds is measured on captions of the demo's own kind."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

from iclora.miniature.world import IDENTITY, SETTING
from iclora.models.locate import locate
from recipes.flux_sets import measure_sets


@pytest.fixture(scope="module")
def measured():
    """The base on a few captions."""
    pipeline: Any = FluxPipeline.from_pretrained(locate("miniature/flux").folder)
    pipeline.set_progress_bar_config(disable=True)
    return measure_sets(pipeline, 8, steps=6, true_cfg=1.5, looks_of=1)


def test_the_base_obeys_and_does_not_know_that_panels_belong_together(measured):
    figures, pictures = measured
    assert len(pictures) == 8
    assert 24 <= figures.looks.value <= 32
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
