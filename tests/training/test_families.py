"""Every family: full size on the meta device, and a small random folder through train and draw."""

from __future__ import annotations

import re

import pytest
import torch

from iclora.errors import BadConfig
from iclora.models.families import Given, Grid, load_family
from iclora.training import train_adapter

GRID = Grid(6, 4)
SIZE = {"width": 32, "height": 48}


def build_fill(folder):
    from diffusers import FluxFillPipeline, FluxTransformer2DModel

    from iclora.miniature.flux_folder import build_flux, save_flux
    from iclora.miniature.sizes import TINY

    base = build_flux(TINY)
    config = dict(base.transformer.config) | {"in_channels": 32 + 32 + 64, "out_channels": 32}
    config.pop("_use_default_values")  # otherwise from_config takes those values for unset
    parts = dict(base.components) | {"transformer": FluxTransformer2DModel.from_config(config)}
    parts = {name: parts[name] for name in (
        "scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2",
        "transformer",
    )}  # fmt: skip
    save_flux(FluxFillPipeline(**parts), folder)


def build_klein(folder):
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from iclora.miniature.tokenizer import build_tokenizer, vocabulary_size

    tokenizer = build_tokenizer("none", context=32)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 16, 16),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        mid_block_add_attention=False,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    text = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary_size(), hidden_size=16, intermediate_size=16, head_dim=8,
            num_hidden_layers=36, num_attention_heads=2, num_key_value_heads=1,
        )
    )  # fmt: skip
    transformer = Flux2Transformer2DModel(
        in_channels=32, num_layers=1, num_single_layers=1, attention_head_dim=32,
        num_attention_heads=2, joint_attention_dim=48, axes_dims_rope=(8, 8, 8, 8),
        guidance_embeds=False,
    )  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    Flux2KleinPipeline(scheduler, vae, text, tokenizer, transformer).save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("families")
    build_fill(place / "flux1-fill")
    build_klein(place / "flux2-klein")
    return place


@pytest.mark.parametrize(
    ("name", "parameters", "linears"),
    [("flux1-fill", 11_902_391_360, 494), ("flux2-klein", 3_875_544_576, 100)],
)
def test_full_size_on_the_meta_device(name, parameters, linears):
    family = load_family(name)
    transformer = family.full_size()
    assert sum(p.numel() for p in transformer.parameters()) == parameters
    blocks = [
        layer
        for layer, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and "transformer_blocks." in layer
    ]
    hits = [layer for layer in blocks if re.fullmatch(family.lora_targets, layer)]
    assert len(hits) == len(blocks) == linears


def test_fill_masks_as_its_pipeline_does(folders):
    from diffusers import FluxFillPipeline

    folder = folders / "flux1-fill"
    pipe = FluxFillPipeline.from_pretrained(folder)
    family = load_family("flux1-fill")
    family.check(folder)
    hole = torch.ones(1, 1, 48, 32)
    hole[:, :, :16] = 0
    mask, _ = pipe.prepare_mask_latents(
        hole, torch.zeros(1, 8, 12, 8), 1, 8, 1, 48, 32, torch.float32, "cpu", None
    )
    kept = torch.zeros(1, GRID.count, dtype=torch.bool)
    kept[:, :8] = True
    tokens, clean = torch.randn(1, GRID.count, 32), torch.ones(1, GRID.count, 32)
    given = Given(clean, kept, torch.zeros(1, GRID.count, 32))
    inputs = family.inputs(pipe.transformer, tokens, given)
    assert torch.equal(inputs[..., :32], tokens)
    assert torch.equal(inputs[..., 32:64], kept[..., None].float().expand(-1, -1, 32))
    assert torch.equal(inputs[..., 64:], mask)


def test_klein_draws_as_its_pipeline_does(folders):
    from diffusers import Flux2KleinPipeline

    folder, caption, steps = folders / "flux2-klein", "a red house", 2
    family = load_family("flux2-klein")
    family.check(folder)
    pipe = Flux2KleinPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    tokens = torch.randn(1, GRID.count, 32, generator=torch.Generator().manual_seed(1))
    grid_shape = tokens.permute(0, 2, 1).reshape(1, 32, *GRID)
    want = pipe(
        prompt=caption, **SIZE, num_inference_steps=steps, guidance_scale=1.0, latents=grid_shape,
        max_sequence_length=32, output_type="pt",
    ).images  # fmt: skip

    text = family.encode_text(family.load_text(folder, dtype=torch.float32), [caption])
    transformer = family.load_transformer(folder, dtype=torch.float32)
    sigmas = family.sigmas(folder, steps, GRID.count)
    x = tokens
    with torch.no_grad():
        for a, b in zip(sigmas[:-1], sigmas[1:], strict=True):
            t = torch.tensor([a])
            x = x + (b - a) * family.predict(transformer, x, t, text, grid=GRID, guidance=1.0)
    vae = family.load_vae(folder, dtype=torch.float32)
    got = family.decode(vae, x, GRID)
    torch.testing.assert_close(got.clamp(-1, 1) / 2 + 0.5, want, atol=2e-4, rtol=0)

    pixels = torch.rand(1, 3, 48, 32) * 2 - 1
    with torch.no_grad():
        mode = pipe._pack_latents(pipe._encode_vae_image(pixels, torch.Generator()))
    torch.testing.assert_close(family.encode_images(vae, pixels).mean, mode, atol=1e-4, rtol=0)


def test_a_distilled_klein_needs_an_adapter(folders, tmp_path):
    import json
    import shutil

    place = tmp_path / "klein"
    shutil.copytree(folders / "flux2-klein", place)
    index = place / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"is_distilled": True}))
    with pytest.raises(BadConfig, match="distilled klein"):
        load_family("flux2-klein").check(place)
    load_family("flux2-klein").check(place, training_adapter="x.safetensors")
    with pytest.raises(BadConfig, match=r"base\.family"):
        load_family("flux1").check(place)


@pytest.mark.parametrize("name", ["flux1-fill", "flux2-klein"])
def test_train_save_load_draw(folders, store, dataset, config, name):
    import diffusers

    base = config.base.model_copy(update={"model": str(folders / name), "family": name})
    train = config.train.model_copy(update={"steps": 2, "conditional": 0.5})
    ref = train_adapter(
        store, dataset, config.model_copy(update={"base": base, "train": train}), "mine"
    )
    pipe = getattr(diffusers, load_family(name).pipeline).from_pretrained(folders / name)
    pipe.set_progress_bar_config(disable=True)
    extra = {}
    if name == "flux1-fill":
        extra = {"image": torch.zeros(1, 3, 48, 32), "mask_image": torch.ones(1, 1, 48, 32)}

    def draw():
        noise = torch.Generator().manual_seed(1)
        return pipe(
            prompt="a house", **SIZE, **extra, num_inference_steps=2, generator=noise,
            output_type="pt", max_sequence_length=32,
        ).images  # fmt: skip

    bare = draw()
    pipe.load_lora_weights(ref.url, weight_name="mine-raw.safetensors")
    assert not torch.equal(bare, draw())
