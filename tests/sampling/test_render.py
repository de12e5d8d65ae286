from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from iclora.sampling.given_panels import fit_panel, split_canvas
from iclora.sampling.render import render_requests
from iclora.sampling.render_records import RenderRequest, RenderSettings
from iclora.sampling.sampler import load_sampler, noise_seed


@pytest.fixture
def sampler(config):
    return load_sampler(config.base.model, config.base.family, "", "auto")


def pixels(picture):
    return np.asarray(picture, np.int16)


def difference(one, other):
    return np.abs(pixels(one) - pixels(other))


@pytest.fixture
def red():
    """A picture with structure, mostly red."""
    ramp = np.zeros((48, 64, 3), np.uint8)
    ramp[..., 0] = 200
    ramp[..., 1] = np.linspace(0, 255, 64)[None, :]
    return Image.fromarray(ramp)


def test_noise_is_a_function_of_caption_seed_and_size_alone(config):
    layout = config.layout
    taller = layout.model_copy(update={"panel_height": 64})
    seeds = {
        noise_seed("a", 1, layout),
        noise_seed("b", 1, layout),
        noise_seed("a", 2, layout),
        noise_seed("a", 1, taller),
    }
    assert len(seeds) == 4
    assert noise_seed("a", 1, layout) == noise_seed("a", 1, layout)


def test_the_same_picture_alone_or_in_a_batch_or_in_another_order(sampler, config, captions):
    settings = RenderSettings(config.layout, config.sample)
    requests = [RenderRequest(caption, seed) for caption in captions for seed in (1, 2)]
    sampler.encode_captions([*captions, ""])
    together = sampler.render(requests, settings)
    turned = sampler.render(requests[::-1], settings)[::-1]
    alone = [sampler.render([request], settings)[0] for request in requests]
    for one, other, third in zip(together, alone, turned, strict=True):
        assert (difference(one, other) <= 2).mean() >= 0.999
        assert (difference(one, third) <= 2).mean() >= 0.999
    assert difference(together[0], together[1]).max() > 20  # seeds differ


def test_the_same_batch_gives_the_same_bytes(sampler, config, captions):
    settings = RenderSettings(config.layout, config.sample)
    requests = [RenderRequest(caption, 7) for caption in captions]
    sampler.encode_captions([*captions, ""])
    first, second = sampler.render(requests, settings), sampler.render(requests, settings)
    assert [a.tobytes() for a in first] == [b.tobytes() for b in second]


def test_it_draws_what_the_plain_pipeline_draws(sampler, config, captions, tiny_flux):
    """Without true CFG, from the same noise: FluxPipeline's picture."""
    from diffusers import FluxPipeline

    params = config.sample.model_copy(update={"true_cfg": 1.0})
    sampler.encode_captions(captions[:1])
    ours = sampler.render([RenderRequest(captions[0], 3)], RenderSettings(config.layout, params))[0]
    pipeline = FluxPipeline.from_pretrained(tiny_flux)
    pipeline.set_progress_bar_config(disable=True)
    seed = noise_seed(captions[0], 3, config.layout)
    grid = sampler.grid(config.layout)
    channels = sampler.family.token_channels(sampler.transformer)
    noise = torch.randn(grid.count, channels, generator=torch.Generator().manual_seed(seed))
    theirs = pipeline(
        captions[0],
        width=config.layout.width,
        height=config.layout.height,
        num_inference_steps=params.steps,
        guidance_scale=params.guidance,
        latents=noise[None],
        max_sequence_length=sampler.family.load_text(tiny_flux, dtype=torch.float32).length,
    ).images[0]
    assert difference(ours, theirs).max() <= 1


@pytest.mark.parametrize("way", ["put-back", "clean"])
@pytest.mark.parametrize("indices", [(0,), (1,), (0, 2)])
def test_given_panels_come_back_to_the_pixel(config, captions, red, tmp_path, way, indices):
    config = config.model_copy(
        update={"sample": config.sample.model_copy(update={"given_mode": way})}
    )
    given = {index: fit_panel(red.rotate(90 * index), config.layout) for index in indices}
    (record,) = render_requests([RenderRequest(captions[0], 1, given)], config, tmp_path)
    panels = split_canvas(Image.open(tmp_path / record.canvas).convert("RGB"), config.layout)
    for index, panel in enumerate(panels):
        saved = Image.open(tmp_path / record.panels[index])
        assert saved.tobytes() == panel.tobytes()
        if index in given:
            assert panel.tobytes() == given[index].tobytes()
        else:
            assert pixels(panel).std() > 1  # drawn, not left empty
    assert record.way == ("clean" if way == "clean" else "put-back 1")


@pytest.mark.parametrize("way", ["put-back", "clean"])
def test_what_is_given_changes_what_is_drawn(config, captions, red, tmp_path, way):
    config = config.model_copy(
        update={"sample": config.sample.model_copy(update={"given_mode": way})}
    )
    green = Image.fromarray(np.asarray(red)[..., [1, 0, 2]])
    requests = [
        RenderRequest(captions[0], 1, {0: fit_panel(picture, config.layout)})
        for picture in (red, green)
    ]
    records = render_requests(requests, config, tmp_path)
    drawn = [Image.open(tmp_path / record.panels[2]) for record in records]
    assert difference(*drawn).any()


@pytest.mark.parametrize("clean", [False, True])
def test_the_given_panels_tokens_end_as_the_vae_sees_the_panel(
    sampler, config, captions, red, clean
):
    """Before anything is pasted: what the decoder gets there is the panel, and only there."""
    settings = RenderSettings(config.layout, config.sample, clean=clean)
    panel = fit_panel(red, config.layout)
    sampler.encode_captions([captions[0], ""])
    drawn = sampler.tokens([RenderRequest(captions[0], 1, {1: panel})], settings)[0]
    image = torch.from_numpy(pixels(panel) / 127.5 - 1).permute(2, 0, 1)[None].float()
    known = sampler.family.encode_images(sampler.vae, image).mean[0]
    third = len(known)  # a column of three panels: the middle third of the tokens
    assert torch.allclose(drawn[third : 2 * third], known, atol=1e-5)
    assert not torch.isclose(drawn[:third], known).all()


def test_given_panels_start_from_noise_and_never_leave_the_others_empty(
    sampler, config, captions, red
):
    """With every step's put-back the drawn tokens stay in the range of free ones."""
    given = {0: fit_panel(red, config.layout)}
    settings = RenderSettings(config.layout, config.sample)
    sampler.encode_captions([captions[0], ""])
    drawn = sampler.tokens([RenderRequest(captions[0], 1, given)], settings)[0]
    free = sampler.tokens([RenderRequest(captions[0], 1)], settings)[0]
    rest = slice(len(free) // 3, None)
    assert 0.5 < (drawn[rest].std() / free[rest].std()).item() < 2


def test_less_strength_lets_the_model_repaint_the_last_steps(sampler, config, captions, red):
    given = {0: fit_panel(red, config.layout)}
    sampler.encode_captions([captions[0], ""])
    drawn = {}
    for strength in (0.0, 0.5, 1.0):
        params = config.sample.model_copy(update={"strength": strength})
        request = RenderRequest(captions[0], 1, given)
        drawn[strength] = sampler.render([request], RenderSettings(config.layout, params))[0]
    free = sampler.render(
        [RenderRequest(captions[0], 1)], RenderSettings(config.layout, config.sample)
    )[0]
    assert drawn[0.0].tobytes() == free.tobytes()
    assert drawn[0.5].tobytes() not in {drawn[0.0].tobytes(), drawn[1.0].tobytes()}


def test_text_is_encoded_once(sampler, captions, monkeypatch):
    sampler.encode_captions(captions)

    def load_text(*_args, **_options):
        raise AssertionError("every caption is encoded already")

    monkeypatch.setattr(sampler.family, "load_text", load_text)
    sampler.encode_captions(captions)
    with pytest.raises(AssertionError, match="encoded already"):
        sampler.encode_captions([*captions, "another"])
