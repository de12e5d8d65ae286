"""The FLUX.1 seam against diffusers' own pipeline, and against the released model's shape."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from iclora.errors import BadConfig
from iclora.models.families import GivenTokens, Grid, family_names, load_family
from iclora.models.families.flux1 import FAMILY, pack, unpack

WIDTH, HEIGHT = 32, 48
GRID = Grid(HEIGHT // 8, WIDTH // 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from iclora.miniature.flux_folder import build_flux, save_flux
    from iclora.miniature.sizes import TINY

    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("tiny") / "flux"
    torch.manual_seed(0)
    save_flux(build_flux(TINY), place)
    return place


@pytest.fixture(scope="module")
def pipe(folder):
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load(folder, part):
    return getattr(FAMILY, f"load_{part}")(folder, dtype=torch.float32)


def test_all_linears_of_the_released_blocks_are_targets():
    from iclora.training.lora import add_lora

    transformer = FAMILY.meta_transformer()
    linears = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and "transformer_blocks." in name
    ]
    hits = [name for name in linears if re.fullmatch(FAMILY.lora_targets, name)]
    assert len(linears) == len(hits) == 494
    with torch.device("meta"):
        tensors = add_lora(transformer, FAMILY, rank=16, seed=0)
    assert len(tensors) == 988
    assert sum(tensor.numel() for tensor in tensors.values()) == 85_917_696
    assert tensors["transformer_blocks.0.norm1.linear.lora_B.weight"].shape == (18432, 16)
    assert tensors["single_transformer_blocks.37.proj_out.lora_A.weight"].shape == (16, 15360)


def test_drawing_through_the_seam_is_drawing_with_the_pipeline(folder, pipe):
    caption, steps = "a red house", 3
    tokens = torch.randn(1, GRID.count, 32, generator=torch.Generator().manual_seed(3))
    want = pipe(
        caption, width=WIDTH, height=HEIGHT, num_inference_steps=steps, guidance_scale=3.5,
        latents=tokens, max_sequence_length=128, output_type="pt",
    ).images  # fmt: skip

    text = FAMILY.encode_text(load(folder, "text"), [caption])
    transformer = load(folder, "transformer")
    sigmas = FAMILY.sigmas(folder, steps, GRID.count)
    x = tokens
    with torch.no_grad():
        for a, b in pairwise(sigmas):
            t = torch.tensor([a])
            v = FAMILY.predict(transformer, x, t, text, grid=GRID, guidance=3.5)
            x = x + (b - a) * v
    got = FAMILY.decode(load(folder, "vae"), x, GRID)
    torch.testing.assert_close(got.clamp(-1, 1) / 2 + 0.5, want, atol=2e-4, rtol=0)


def test_the_posterior_is_what_the_pipeline_would_encode(folder, pipe):
    pixels = torch.rand(1, 3, HEIGHT, WIDTH) * 2 - 1
    with torch.no_grad():
        spread = pipe.vae.encode(pixels).latent_dist
    scaled = (spread.mode() - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    want = pipe._pack_latents(scaled, 1, 8, HEIGHT // 4, WIDTH // 4)
    posterior = FAMILY.encode_images(load(folder, "vae"), pixels)
    torch.testing.assert_close(posterior.mean, want)
    scale = pipe.vae.config.scaling_factor
    torch.testing.assert_close(posterior.deviation.sum(), (spread.std * scale).sum())


def test_given_tokens_are_read_clean(folder):
    text = FAMILY.encode_text(load(folder, "text"), ["x"])
    transformer, t = load(folder, "transformer"), torch.tensor([0.5])
    clean, mask = torch.zeros(1, GRID.count, 32), torch.zeros(1, GRID.count, dtype=torch.bool)
    mask[:, :8] = True
    one, other = torch.randn(1, GRID.count, 32), torch.randn(1, GRID.count, 32)
    other[:, 8:] = one[:, 8:]

    def velocity(tokens, given=None):
        return FAMILY.predict(transformer, tokens, t, text, grid=GRID, guidance=1.0, given=given)

    assert not torch.equal(velocity(one), velocity(other))
    kept = GivenTokens(clean, mask)
    assert torch.equal(velocity(one, kept), velocity(other, kept))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_pack_and_unpack_are_inverse(b, rows, columns, channels):
    latents = torch.arange(b * channels * rows * columns * 4).float()
    latents = latents.view(b, channels, rows * 2, columns * 2)
    packed = pack(latents)
    assert packed.shape == (b, rows * columns, channels * 4)
    assert torch.equal(unpack(packed, Grid(rows, columns)), latents)


def changed(folder, place, part, **values):
    shutil.copytree(folder, place)
    file = place / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return place


def test_schnell_needs_a_training_adapter(folder, tmp_path):
    FAMILY.check(folder)
    place = changed(folder, tmp_path / "a", "transformer", guidance_embeds=False)
    FAMILY.check(place)  # de-distilled bases have no guidance either
    schnell = changed(place, tmp_path / "b", "scheduler", use_dynamic_shifting=False)
    with pytest.raises(BadConfig, match="training_adapter"):
        FAMILY.check(schnell)
    FAMILY.check(schnell, training_adapter="schnell-training.safetensors")


def test_other_architectures_are_refused(folder, tmp_path):
    with pytest.raises(BadConfig, match=r"base\.family"):
        FAMILY.check(changed(folder, tmp_path / "a", "transformer", _class_name="Other"))
    fill = changed(folder, tmp_path / "b", "transformer", in_channels=384, out_channels=64)
    with pytest.raises(BadConfig, match="flux1-fill"):
        FAMILY.check(fill)
    with pytest.raises(BadConfig, match="not a diffusers pipeline"):
        FAMILY.check(tmp_path)


def test_a_caption_that_is_cut_is_known(folder):
    encoders = load(folder, "text")
    assert FAMILY.fits_text_encoder(encoders, ["a house", "house " * 200]) == [True, False]


def test_families_are_found_by_name():
    assert "flux1" in family_names()
    with pytest.raises(BadConfig, match="known are"):
        load_family("flux9")
