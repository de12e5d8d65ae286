from __future__ import annotations

import pytest

from iclora.captioning.linter import lint_caption
from iclora.presets import load_config

TASKS = (
    "couple-profile",
    "font-design",
    "home-decoration",
    "movie-shots",
    "portrait-illustration",
    "portrait-photography",
    "ppt-templates",
    "sandstorm-visual-effect",
    "sparklers-visual-effect",
    "visual-identity-design",
)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_three_example_captions_that_its_linter_accepts(task):
    config = load_config(task)
    assert len(set(config.sample.prompts)) == 3
    for caption in config.sample.prompts:
        assert lint_caption(caption, config.layout, config.caption) == []
