"""A flow's plan resolves the settings; it uses the miniature only for the demo."""

from __future__ import annotations

import pytest

from iclora.build import build_dataset
from iclora.errors import BadConfig
from iclora.miniature.film import encode_film
from iclora.miniature.script import film_script
from iclora.presets import load_config
from schemas.dataset import DatasetManifest
from schemas.store_paths import dataset_path
from tasks.build import plan_build
from tasks.training import plan_training


@pytest.fixture(autouse=True)
def _token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "x")  # no block is asked for it


@pytest.fixture
def film(tmp_path):
    script, path = film_script(1), tmp_path / "film.mp4"
    encode_film(script.model_copy(update={"shots": script.shots[:9]}), path)
    return str(path)


def test_footage_asks_for_a_preset_or_a_base(store, film):
    with pytest.raises(BadConfig, match="no preset: name a task and a base"):
        plan_build.fn([film], "", "", "films", store.url, {}, "")
    assert not store.exists("work")
    job = plan_build.fn([film], "couple-profile", "flux1-dev", "films", store.url, {}, "")
    assert job.config == load_config("couple-profile", base="flux1-dev")
    assert [source.name.partition("@")[0] for source in job.sources] == ["film.mp4"]


def test_without_footage_the_demo_is_built(store, film, monkeypatch):
    monkeypatch.setattr("iclora.miniature.demo.render_demo", lambda _folder: film)
    job = plan_build.fn([], "", "", "demo", store.url, {}, "")
    assert job.config == load_config("miniature")
    assert len(job.sources) == 1


def test_training_needs_no_preset_on_a_dataset_of_the_miniature(store, film, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('extends = ["miniature"]\n')
    loose = {"filter.max_set_similarity": 1.0, "filter.sets.similarity.min_first_last": -1.0}
    version = build_dataset(store, [film], load_config(str(own), loose), "films").version
    with pytest.raises(BadConfig, match="no preset: name a task and a base"):
        plan_training.fn("films", "", "", "films", store.url, {})
    job = plan_training.fn("films", "movie-shots", "flux1-dev", "films", store.url, {})
    assert job.config.base.model == "black-forest-labs/FLUX.1-dev"

    # The same dataset as the miniature's own preset would have made it.
    path = dataset_path("films", "manifest.json", version=version)
    manifest = DatasetManifest.from_text(store.read(path))
    config = manifest.config.model_copy(update={"preset": "miniature"})
    store.write(path, manifest.model_copy(update={"config": config}).to_text().encode())
    job = plan_training.fn("films", "", "", "demo", store.url, {})
    assert job.config == load_config("miniature")
