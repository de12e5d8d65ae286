"""Presets add up, and a typo is answered with the nearest key."""

from __future__ import annotations

import pytest

from iclora.errors import BadConfig
from iclora.presets import base_names, load_config, override_config, require_preset, task_names


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


@pytest.mark.parametrize("base", base_names())
@pytest.mark.parametrize("task", task_names())
def test_every_task_goes_with_every_base(task, base):
    config, alone, bare = load_config(task, base=base), load_config(task), load_config(base)
    assert config.preset == f"{task}-{base}"
    assert (config.base, config.train, config.data) == (bare.base, bare.train, bare.data)
    assert (config.caption.task, config.caption.prefix) == (task, alone.caption.prefix)
    assert config.caption.captioner == bare.caption.captioner
    assert config.layout.markers == alone.layout.markers
    if base != "miniature":  # it draws every task in small
        assert (config.layout, config.sample.prompts) == (alone.layout, alone.sample.prompts)


def test_the_film_task_on_the_miniature_is_the_demo():
    config = load_config("movie-shots", base="miniature")
    assert config.model_copy(update={"preset": "miniature"}) == load_config()


def test_a_task_and_a_base_are_what_a_file_that_extends_both_is(tmp_path):
    path = tmp_path / "movie-shots-flux1-fill.toml"
    path.write_text('extends = ["movie-shots", "flux1-fill"]\n')
    assert load_config(str(path)) == load_config("movie-shots", base="flux1-fill")
    assert load_config(str(path)).train.conditional_probability == 0.5


def test_a_users_file_is_over_the_base_and_overrides_are_over_both(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('extends = ["couple-profile"]\n[train]\nsteps = 7\nbatch = 3\n')
    config = load_config(str(path), ["train.batch=2"], base="flux1-dev")
    assert (config.preset, config.layout.columns) == ("mine-flux1-dev", 2)
    assert (config.train.steps, config.train.batch) == (7, 2)
    assert config.base.model == "black-forest-labs/FLUX.1-dev"
    base = tmp_path / "base.toml"
    base.write_text('extends = ["flux1-dev"]\n[base]\nmodel = "me/flux"\n')
    assert load_config("couple-profile", base=str(base)).base.model == "me/flux"


@pytest.mark.parametrize(
    ("preset", "base", "sentence"),
    [
        (
            "flux1-dev",
            "flux1-krea",
            "flux1-dev names a base model itself: leave out the base flux1-krea",
        ),
        ("miniature", "flux1-dev", "miniature names a base model itself"),
        ("", "movie-shots", "movie-shots names no base model; bases are flux1-dev, "),
        ("movie-shots", "open-models", "open-models names no base model; bases are flux1-dev, "),
        ("movie-shots", "flux1dev", "no preset 'flux1dev'; did you mean flux1-dev"),
    ],
)
def test_what_does_not_compose_is_one_sentence(preset, base, sentence):
    with pytest.raises(BadConfig, match=sentence):
        load_config(preset, base=base)


def test_the_miniature_is_used_for_the_demo_or_if_it_is_asked_for():
    require_preset("movie-shots", "")
    require_preset("", "flux1-dev")
    require_preset("", "", "miniature")
    for dataset_preset in ("", "movie-shots"):
        with pytest.raises(BadConfig, match=r"--preset movie-shots --base flux1-dev.* tasks are"):
            require_preset("", "", dataset_preset)


def test_overrides_go_over_a_resolved_configuration():
    config = load_config("miniature", ["train.steps=20", "filter.max_sets=3"])
    changed = override_config(config, ["train.steps=21"])
    assert (
        changed.to_json()
        == load_config("miniature", ["train.steps=21", "filter.max_sets=3"]).to_json()
    )
    assert override_config(config, ()) == config
    with pytest.raises(BadConfig, match=r"did you mean train\.steps"):
        override_config(config, ["train.step=20"])


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
