"""An old setting is refused with its new name."""

from __future__ import annotations

import pytest

from iclora.errors import BadConfig
from iclora.presets import load_config
from iclora.presets.renamed import (
    COMPOSED_PRESETS,
    RENAMED_KEYS,
    RENAMED_VALUES,
    new_name,
    refuse_renamed,
)
from schemas.config import Config


def field_at(key):
    schema = Config
    for part in key.split("."):
        assert part in schema.model_fields, f"{key} is no setting"
        schema = schema.model_fields[part].annotation
    return schema


@pytest.mark.parametrize("key", RENAMED_KEYS)
def test_every_new_name_is_a_setting_and_no_old_one_is(key):
    field_at(RENAMED_KEYS[key])
    parent, _, old = key.rpartition(".")
    known = field_at(parent).model_fields if parent else Config.model_fields
    assert old not in known


@pytest.mark.parametrize(("key", "old"), RENAMED_VALUES)
def test_a_new_value_is_accepted_and_the_old_one_names_it(key, old):
    new = RENAMED_VALUES[key, old]
    load_config("miniature", {key: new})
    with pytest.raises(BadConfig, match=f"{key} = '{old}' is now called '{new}'"):
        load_config("miniature", {key: old})


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("sift.max_sets=7", "sift.max_sets is now called filter.max_sets"),
        (
            "sift.sets.band.floor=0.5",
            "sift.sets.band.floor is now called filter.sets.similarity.min_adjacent",
        ),
        (
            "sift.policy.nsfw.policy=blur",
            "sift.policy.nsfw.policy is now called filter.safety.nsfw.action",
        ),
        (
            "filter.sets.similarity.floor=0.5",
            "filter.sets.similarity.floor is now called filter.sets.similarity.min_adjacent",
        ),
        ("caption.way=canvas", "caption.way is now called caption.mode"),
        ("train.faults.stop_after=3", "train.faults.stop_after is now called train.nonfinite"),
    ],
)
def test_an_old_override_names_the_new_key(override, sentence):
    with pytest.raises(BadConfig, match=sentence):
        load_config("miniature", [override])


def test_an_old_preset_file_names_the_new_key(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = ["miniature"]\n[sift.sets]\nmax_sets_a_scene = 2\n')
    with pytest.raises(BadConfig, match=r"is now called filter\.sets\.max_sets_per_scene"):
        load_config(str(path))


def test_an_old_empty_table_names_the_new_key():
    with pytest.raises(BadConfig, match="sift is now called filter"):
        refuse_renamed({"sift": {}})


def test_a_current_key_keeps_its_name():
    assert new_name("train.steps") == "train.steps"


@pytest.mark.parametrize("old", COMPOSED_PRESETS)
def test_an_old_preset_of_task_and_base_names_the_two(old, tmp_path):
    task, base = COMPOSED_PRESETS[old]
    assert load_config(task, base=base).preset == old
    path = tmp_path / "mine.toml"
    path.write_text(f'extends = ["{old}"]\n')
    for preset in (old, str(path)):
        with pytest.raises(BadConfig, match=f"--preset {task} --base {base} .*extends = "):
            load_config(preset)
