"""Where weights are, what their revision is, and what is said when they are not there."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from iclora.errors import BadConfig, MissingModel
from iclora.models import locate as door
from iclora.models.locate import file_digest, folder_digest, locate


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ICLORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def model_folder(path: Path, text: str = "weights") -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_text(text)
    return path


def test_a_folder_is_named_by_its_content(tmp_path):
    one = locate(str(model_folder(tmp_path / "one")))
    same = locate(str(model_folder(tmp_path / "same")))
    other = locate(str(model_folder(tmp_path / "other", "other weights")))
    assert one.folder == tmp_path / "one"
    assert one.revision == same.revision != other.revision


def test_a_renamed_file_is_another_revision_and_hidden_files_are_none(tmp_path):
    folder = model_folder(tmp_path / "one")
    before = folder_digest(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "note").write_text("x")
    assert folder_digest(folder) == before
    (folder / "config.json").rename(folder / "other.json")
    assert folder_digest(folder) != before


def test_a_files_digest_is_remembered_until_it_changes(tmp_path, cache):
    path = tmp_path / "weights"
    path.write_text("a")
    first = file_digest(path)
    notes = list((cache / "digests").iterdir())
    assert [note.read_text() for note in notes] == [first]
    notes[0].write_text("remembered")
    assert file_digest(path) == "remembered"
    path.write_text("bb")
    assert file_digest(path) not in {first, "remembered"}


def test_a_hub_model_comes_from_the_local_hub_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "hub" / "models--some--model"
    model_folder(home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    assert locate("some/model") == (home / "snapshots" / commit, commit, "some/model")


def test_a_missing_hub_model_says_how_to_get_it(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(MissingModel, match="run `hf download some/other-model`"):
        locate("some/other-model")


@pytest.mark.parametrize("name", ["no-such-folder", "/no/such/folder", "a/b/c", "a b/c"])
def test_a_name_that_means_nothing_is_refused(name):
    with pytest.raises(BadConfig, match="neither a folder on this machine nor a hub id"):
        locate(name)


def test_the_miniature_has_three_parts():
    with pytest.raises(BadConfig, match="the miniature has clip, vlm, flux, not 'other'"):
        locate("miniature/other")


def test_without_trained_weights_a_random_family_is_built_once(cache, caplog):
    with caplog.at_level(logging.WARNING):
        place = door._random_family()
    assert "random weights" in caplog.text
    assert place.parent == cache
    assert {path.name for path in place.iterdir()} >= {"clip", "vlm", "flux"}
    assert [path for path in cache.iterdir() if path.name.startswith(".")] == []
    before = (place / "clip" / "open_clip_config.json").stat().st_mtime_ns
    assert door._random_family() == place
    assert (place / "clip" / "open_clip_config.json").stat().st_mtime_ns == before


def test_the_miniature_says_whether_its_weights_are_random():
    located = locate("miniature/clip")
    trained = door._package() / "weights" / "clip"
    assert located.revision.startswith("random-") is not trained.is_dir()
    assert (located.folder / "open_clip_config.json").is_file()
