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
    assert load_config("miniature", {"filter.max_sets": 7}).filter.max_sets == 7


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
        (b"[filter]\nmax_sets = 2030-01-01\n", "filter.max_sets = '2030-01-01'"),
        (b"[filter]\nmax_sets = 07:32:00\n", "filter.max_sets = '07:32:00'"),
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
        load_config("miniature", {"filter.max_sets": "x" * length})
    assert str(caught.value).startswith(f"filter.max_sets = '{'x' * 100}")
    assert ("x ...: " in str(caught.value)) is is_cut
    assert len(str(caught.value)) < 300


DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    "content",
    [
        f"seed = {DEEP}",
        f"[train]\nsteps = {'{a = ' * 200}1{'}' * 200}",
        f"train.lora.metadata{'.a' * 5000} = 1",
        f"[train]\nsteps = {'9' * 40}",
        f"[train]\nsteps = {'9' * 5000}",
        f"extends = {'9' * 4000}",
    ],
)
def test_a_preset_too_deep_or_too_large_is_one_sentence(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(BadConfig, match="too deep|too large|is not TOML|is a list") as caught:
        load_config(str(path))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "override",
    [
        f"train.steps={DEEP}",
        f"train.steps={'[' * 50}{']' * 50}",
        f"train.lora.metadata{'.a' * 5000}=1",
        f"train.steps={'9' * 40}",
        f"train.steps={'9' * 5000}",
    ],
)
def test_an_override_too_deep_or_too_large_is_one_sentence(override):
    with pytest.raises(BadConfig, match=r"too deep|too large|train\.steps") as caught:
        load_config("miniature", [override])
    assert len(str(caught.value)) < 400


def test_presets_that_are_built_on_too_many_are_refused(tmp_path):
    for number in range(1100):
        (tmp_path / f"{number}.toml").write_text(f"extends = ['{tmp_path}/{number + 1}.toml']")
    (tmp_path / "1100.toml").write_text("seed = 1")
    with pytest.raises(BadConfig, match="more than 32 presets in a row"):
        load_config(str(tmp_path / "0.toml"))


def test_a_preset_that_many_others_extend_is_read_once(tmp_path):
    for number in range(30):
        twice = f"'{tmp_path}/{number + 1}.toml', " * 2
        (tmp_path / f"{number}.toml").write_text(f"extends = [{twice}]")
    (tmp_path / "30.toml").write_text("extends = ['miniature']\n[train]\nsteps = 7\n")
    assert load_config(str(tmp_path / "0.toml")).train.steps == 7


ORDER = ("plain", "changed", "base")


def test_what_presets_share_is_not_changed_by_one_of_them(tmp_path):
    presets = {
        "base": "extends = ['miniature']\n[train]\nsteps = 7\n",
        "plain": f"extends = ['{tmp_path}/base.toml']\n",
        "changed": f"extends = ['{tmp_path}/base.toml']\n[train]\nsteps = 9\n",
        "all": f"extends = {[f'{tmp_path}/{name}.toml' for name in ORDER]}\n",
    }
    for name, text in presets.items():
        (tmp_path / f"{name}.toml").write_text(text)
    assert load_config(str(tmp_path / "all.toml")).train.steps == 7


def test_values_that_may_be_secrets_are_in_no_sentence():
    changes = {"train.optimizer.lr": "hunter2", "data.resolutions": ["hunter2"]}
    for key, value in changes.items():
        with pytest.raises(BadConfig, match=key) as caught:
            load_config("miniature", {key: value}, unshown=[key])
        assert "hunter2" not in str(caught.value)
    with pytest.raises(BadConfig, match="hunter2"):
        load_config("miniature", changes, unshown=["train.steps"])
