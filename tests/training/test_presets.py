"""The packaged presets: each resolves, and names a family that can be planned with."""

from __future__ import annotations

import pytest

from iclora.errors import BadConfig
from iclora.models.families import load_family
from iclora.models.locate import MINIATURE, is_demo
from iclora.presets import load_config, preset_names
from iclora.training import plan_training
from iclora.training.sampler import fit_canvas

BASES = {
    "flux1-dev": "flux1",
    "flux1-krea": "flux1",
    "flux1-schnell": "flux1",
    "flux1-fill": "flux1-fill",
    "flux2-klein-4b": "flux2-klein",
}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_validates(name):
    config = load_config(name)
    assert config.preset == name
    family = load_family(config.base.family)
    assert config.caption.max_tokens <= family.released.text_tokens
    for side in (config.layout.panel_width, config.layout.panel_height):
        assert side % family.released.token_pixels == 0


@pytest.mark.parametrize("name", preset_names())
def test_what_is_trained_has_the_aspect_of_what_is_drawn(name):
    """Drawing takes the layout's size; every size of training has its aspect to within 3 %."""
    config = load_config(name)
    layout, token = config.layout, load_family(config.base.family).released.token_pixels
    for resolution in config.data.resolutions:
        fit = fit_canvas(
            (layout.width, layout.height), layout.boxes, resolution=resolution, step=token
        )
        assert fit.height / fit.width == pytest.approx(layout.height / layout.width, rel=0.03)


@pytest.mark.parametrize(("name", "family"), BASES.items())
def test_a_base_preset_names_its_family_and_its_own_tokenizer(name, family):
    config = load_config(name)
    assert config.base.family == family
    assert config.caption.tokenizer == config.base.model
    assert not is_demo(config.base.model)
    assert (config.train.conditional_probability > 0) == (family == "flux1-fill")


@pytest.mark.parametrize("base", [name for name in BASES if name != "flux1-schnell"])
def test_a_public_base_uses_no_miniature_anywhere(base):
    config = load_config("movie-shots", base=base)
    alone = load_config(base)
    assert (config.base, config.train) == (alone.base, alone.train)
    assert (config.layout.width, config.layout.height) == (1024, 1536)
    assert MINIATURE not in config.to_text()


def test_a_chain_can_be_planned_without_its_weights(store, publish, paint):
    name = publish(store, [paint(n, heights=(512, 512, 512), width=1024) for n in range(2)])
    config = load_config("movie-shots", base="flux2-klein-4b")
    plan = plan_training(store, name, config, memory=24)
    assert plan.base == "black-forest-labs/FLUX.2-klein-base-4B (not here)"
    assert plan.weights == "dense"


def test_schnell_bare_is_refused_with_the_way_out(tiny_flux, tmp_path):
    import json
    import shutil

    place = tmp_path / "schnell"
    shutil.copytree(tiny_flux, place)
    for part, change in (
        ("transformer/config.json", {"guidance_embeds": False}),
        ("scheduler/scheduler_config.json", {"use_dynamic_shifting": False}),
    ):
        file = place / part
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    family = load_family(load_config("flux1-schnell").base.family)
    with pytest.raises(BadConfig, match=r"distilled.*train\.training_adapter"):
        family.check(place)
    family.check(place, training_adapter="adapter.safetensors")
