"""Presets add up, and a typo is answered with the nearest key."""

from __future__ import annotations

import pytest

from iclora.errors import BadConfig
from iclora.presets import load_config


def test_overrides_come_last_and_keep_their_types():
    config = load_config("miniature", ["train.steps=20", "caption.captioner.model=/models/qwen"])
    assert config.train.steps == 20
    assert config.caption.captioner.model == "/models/qwen"
    assert config.layout.panel_width == 64


def test_a_mapping_is_taken_as_well():
    assert load_config("miniature", {"sift.max_sets": 7}).sift.max_sets == 7


def test_a_users_preset_extends_a_packaged_one(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = ["miniature"]\n[train]\nsteps = 7\n')
    config = load_config(str(path))
    assert (config.preset, config.train.steps, config.train.batch) == ("mine", 7, 8)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.step=20", "did you mean train.steps"),
        ("trian.steps=20", "did you mean train"),
        ("train.steps=0", "greater than 0"),
        ("layout.rows=2", "2x1 needs 2 different markers"),
        ("layout.panel_width=100", "multiple of 32"),
        ("train.steps", "section.key=value"),
    ],
)
def test_a_wrong_override_is_one_sentence(override, sentence):
    with pytest.raises(BadConfig, match=sentence):
        load_config("miniature", [override])


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(BadConfig, match="did you mean miniature"):
        load_config("minature")


def test_a_preset_that_extends_itself_is_refused(tmp_path):
    path = tmp_path / "loop.toml"
    path.write_text(f'extends = ["{path}"]\n')
    with pytest.raises(BadConfig, match="extends itself"):
        load_config(str(path))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"# Caf\xe9\nseed = 1\n", "is not TOML: 'utf-8' codec"),
        (b"sift = [\n", "is not TOML"),
        (b"extends = 3\n", "extends is a list of presets, not 3"),
        (b"extends = [3]\n", "no preset '3'"),
        (b"[sift]\nmax_sets = 2030-01-01\n", "sift.max_sets = '2030-01-01'"),
        (b"[sift]\nmax_sets = 07:32:00\n", "sift.max_sets = '07:32:00'"),
    ],
)
def test_a_file_that_is_no_preset_is_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(BadConfig, match=sentence) as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("length", "is_cut"), [(118, False), (119, True), (5000, True)])
def test_of_a_long_wrong_value_the_beginning_is_told(length, is_cut):
    with pytest.raises(BadConfig) as caught:
        load_config("miniature", {"sift.max_sets": "x" * length})
    assert str(caught.value).startswith(f"sift.max_sets = '{'x' * 100}")
    assert ("x ...: " in str(caught.value)) is is_cut
    assert len(str(caught.value)) < 300
