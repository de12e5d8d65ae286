"""Latents and texts are encoded once, by content, and never in the dataset's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_config import with_train

from iclora.errors import BadConfig, BadInput
from iclora.models.families.flux1 import Flux1
from iclora.store import Store
from iclora.training.dataloader import latents_path
from iclora.training.run_inputs import fill_caches, open_job, read_training_data

CPU = torch.device("cpu")


class Counting(Flux1):
    """Counts what it loads and encodes, and in which order."""

    def __init__(self):
        self.log = []

    def load_text(self, *arguments, **options):
        self.log.append("load text")
        return super().load_text(*arguments, **options)

    def load_vae(self, *arguments, **options):
        self.log.append("load vae")
        return super().load_vae(*arguments, **options)

    def encode_images(self, vae, pixels):
        self.log.append("encode")
        return super().encode_images(vae, pixels)


def filled(store, name, config):
    job = open_job(store, name, config, "mine")._replace(family=Counting())
    material = read_training_data(job.dataset, job.config.data, job.config.train, 8)
    cut = fill_caches(job, material, CPU)
    return job, material, cut, job.family.log


def test_everything_is_encoded_once(store, dataset, config):
    before = {p: p.stat().st_mtime_ns for p in Path(store.root, "datasets").rglob("*")}
    _, _, _, first = filled(store, dataset, config)
    assert first == ["load text", "load vae", *["encode"] * 6]
    _, _, _, again = filled(store, dataset, config)
    assert again == []
    assert {p: p.stat().st_mtime_ns for p in Path(store.root, "datasets").rglob("*")} == before
    sizes = config.data.model_copy(update={"resolutions": (40, 64)})
    _, _, _, more = filled(store, dataset, config.model_copy(update={"data": sizes}))
    assert more == ["load vae", *["encode"] * 6]


def test_what_is_encoded_does_not_depend_on_what_else_is_missing(
    tmp_path, store, publish, paint, config
):
    """A run that was killed while it filled the cache finds others missing than a fresh one."""
    name = publish(store, [paint(n, caption="house " * (n + 1)) for n in range(5)])
    job, _, _, _ = filled(store, name, config)
    (tmp_path / "other").mkdir()
    other = Store(str(tmp_path / "other"))
    filled(other, publish(other, [paint(3, caption="house " * 4)]), config)
    for kind in ("text", "latents"):
        alone = {file.name: file for file in Path(other.root, "cache", kind).rglob("*.safetensors")}
        assert len(alone) == {"text": 2, "latents": 1}[kind]  # the empty caption is there too
        for file in alone.values():
            same = Path(job.store.root) / file.relative_to(other.root)
            assert same.read_bytes() == file.read_bytes()


def test_sizes_that_collapse_share_an_entry(store, publish, paint, config):
    data = config.data.model_copy(update={"resolutions": (512, 1024)})
    name = publish(store, [paint(0)])
    _, _, _, log = filled(store, name, config.model_copy(update={"data": data}))
    assert log.count("encode") == 1


def test_the_posterior_is_kept_not_a_draw(store, dataset, config):
    job, material, _, _ = filled(store, dataset, config)
    item = next(iter(material.train.values()))
    posterior = job.cache.posterior(latents_path(job.cache, item, item.views[64]))
    assert posterior.mean.shape == posterior.deviation.shape == (48, 32)
    assert (posterior.deviation > 0).all()


def test_other_content_base_or_precision_is_another_entry(store, dataset, config):
    job, material, _, _ = filled(store, dataset, config)
    item = next(iter(material.train.values()))
    view = item.views[64]
    here = latents_path(job.cache, item, view)
    assert here != latents_path(job.cache, item._replace(image_sha256="other"), view)
    for change in ({"revision": "r2"}, {"dtype": "bf16"}, {"family": "other"}):
        other = type(job.cache)(store, job.cache._encoder._replace(**change))
        assert here != latents_path(other, item, view)
        assert job.cache.text_path("a") != other.text_path("a")
    assert job.cache.text_path("a") != job.cache.text_path("b")


def test_captions_that_are_cut_are_counted_and_kept_whole(store, publish, paint, config, caplog):
    long = "house " * 300
    name = publish(store, [paint(0, caption=long), paint(1)])
    _, material, cut, _ = filled(store, name, config)
    assert cut == 1
    assert "only the beginning" in caplog.text
    assert material.train["set-000"].caption == long
    _, _, again, log = filled(store, name, config)
    assert (again, log) == (1, [])


def test_a_sample_masked_all_over_is_left_out_and_counted(store, publish, paint, config):
    whole, all_but = (0, 0, 32, 96), (0, 0, 32, 88)
    name = publish(store, [paint(0, masks=[whole]), paint(1, masks=[all_but]), paint(2)])
    _, material, _, _ = filled(store, name, config)
    assert sorted(material.train) == ["set-001", "set-002"]
    assert material.counts["samples_masked_all_over"] == 1
    nothing = publish(store, [paint(0, masks=[whole])], name="nothing")
    with pytest.raises(BadInput, match="masked all over"):
        filled(store, nothing, config)


def test_panel_weights_must_fit_the_panels(store, dataset, config):
    with pytest.raises(BadConfig, match="has 2 values"):
        filled(store, dataset, with_train(config, panel_weights=(1.0, 2.0)))


def test_an_adapter_has_no_secret_of_the_captioners_address(store, publish, paint, config):
    url = "http://me:hunter2@host/v1?key=s3cr3t"
    captioner = config.caption.captioner.model_copy(update={"url": url})
    caption = config.caption.model_copy(update={"captioner": captioner})
    name = publish(store, [paint(0)])
    plain = open_job(store, name, config, "mine")
    job = open_job(store, name, config.model_copy(update={"caption": caption}), "mine")
    assert job.identity.config.caption.captioner.url == "http://***@host/v1?***"
    assert job.identity.version == plain.identity.version
