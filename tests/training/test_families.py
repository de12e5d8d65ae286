"""Every family: full size on the meta device, and a small random folder through train and draw."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from training_config import with_train

from iclora.errors import BadConfig
from iclora.evaluation.plan import make_evaluation_plan
from iclora.evaluation.prompts import PromptSet, RealSet
from iclora.evaluation.renders import render_arm
from iclora.models.families import Family, GivenTokens, Grid, family_names, load_family
from iclora.sampling.adapters import applied, locate_adapter
from iclora.sampling.render import render_requests
from iclora.sampling.render_records import RenderRequest, RenderSettings
from iclora.sampling.sampler import load_sampler, noise_seed
from iclora.store import Store
from iclora.train import train_adapter
from schemas.config import Config
from schemas.sampling import AdapterUse

CAPTION = "[MOVIE-SHOTS] a house, [SCENE-1] a red house, [SCENE-2] a door, [SCENE-3] a garden."
GRID = Grid(6, 4)
SIZE = {"width": 32, "height": 48}


def build_flux1(folder):
    from iclora.miniature.flux_folder import build_flux, save_flux
    from iclora.miniature.sizes import TINY

    save_flux(build_flux(TINY), folder)


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


BUILDERS = {
    "FluxPipeline": build_flux1,
    "FluxFillPipeline": build_fill,
    "Flux2KleinPipeline": build_klein,
}
"""A tiny random base for every pipeline that a family names."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("families")
    for name, build in BUILDERS.items():
        build(place / name)
    return place


@pytest.mark.parametrize(
    ("name", "parameters", "linears"),
    [("flux1-fill", 11_902_391_360, 494), ("flux2-klein", 3_875_544_576, 100)],
)
def test_full_size_on_the_meta_device(name, parameters, linears):
    family = load_family(name)
    transformer = family.meta_transformer()
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

    folder = folders / "FluxFillPipeline"
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
    given = GivenTokens(clean, kept, torch.zeros(1, GRID.count, 32))
    inputs = family.inputs(pipe.transformer, tokens, given)
    assert torch.equal(inputs[..., :32], tokens)
    assert torch.equal(inputs[..., 32:64], kept[..., None].float().expand(-1, -1, 32))
    assert torch.equal(inputs[..., 64:], mask)


def test_klein_draws_as_its_pipeline_does(folders):
    from diffusers import Flux2KleinPipeline

    folder, caption, steps = folders / "Flux2KleinPipeline", "a red house", 2
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
    shutil.copytree(folders / "Flux2KleinPipeline", place)
    index = place / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"is_distilled": True}))
    with pytest.raises(BadConfig, match="distilled klein"):
        load_family("flux2-klein").check(place)
    load_family("flux2-klein").check(place, training_adapter="x.safetensors")
    with pytest.raises(BadConfig, match=r"base\.family"):
        load_family("flux1").check(place)


# From here on every family that the package lists is trained and drawn with.


class Mine(NamedTuple):
    """An adapter that was trained on a tiny base of a family."""

    family: Family
    folder: Path
    """The base's."""

    store: Store
    config: Config
    use: AdapterUse


@pytest.fixture(scope="module")
def known():
    return {}


@pytest.fixture(params=family_names())
def mine(request, known, folders, store, dataset, config):
    """Trained once a family; strong enough that a picture without it is another one."""
    name = request.param
    if name not in known:
        family = load_family(name)
        folder = folders / family.pipeline
        assert folder.exists(), f"BUILDERS needs a tiny base for {family.pipeline}"
        base = config.base.model_copy(update={"model": str(folder), "family": name})
        config = with_train(config, steps=2, conditional_probability=0.5, optimizer={"lr": 0.3})
        # FluxFillPipeline has no true guidance.
        guided = 1.0 if family.needs_blank else 2.5
        sample = config.sample.model_copy(update={"steps": 3, "true_cfg": guided})
        config = config.model_copy(update={"base": base, "sample": sample})
        train_adapter(store, dataset, config, "mine")
        known[name] = Mine(family, folder, store, config, locate_adapter(store, "mine"))
    return known[name]


def panel(number):
    ramp = np.zeros((32, 32, 3), np.uint8)
    ramp[..., number] = 200
    ramp[..., (number + 1) % 3] = np.linspace(0, 255, 32)[None, :]
    return Image.fromarray(ramp)


def draw(mine, folder, *, given=(), way="auto", uses=None, **changes):
    """Draws our canvas, 96 x 32 pixels."""
    sample = mine.config.sample.model_copy(update={"given_mode": way, **changes})
    wish = RenderRequest(CAPTION, 3, {number: panel(number) for number in given})
    (record,) = render_requests(
        [wish],
        mine.config.model_copy(update={"sample": sample}),
        folder,
        adapters=[mine.use] if uses is None else uses,
    )
    for number in given:
        saved = Image.open(folder / record.panels[number])
        assert saved.tobytes() == panel(number).tobytes()
    return np.asarray(Image.open(folder / record.canvas), np.int16)


def tokens(mine, *, given, way, uses):
    """Draws with our sampler up to what it hands to the VAE, ``[N, C]``."""
    base, sample = mine.config.base, mine.config.sample
    painter = load_sampler(base.model, base.family, sample.weights, sample.precision)
    painter.encode_captions([CAPTION, ""])
    wish = RenderRequest(CAPTION, 3, {number: panel(number) for number in given})
    with applied(painter.transformer, uses, mine.family):
        return painter.tokens(
            [wish], RenderSettings(mine.config.layout, sample, clean=way == "clean")
        )[0]


def pipeline_of(mine):
    """The family's pipeline in diffusers; Fill's takes its condition's tokens from ``holed``."""
    import diffusers

    class Told(diffusers.FluxFillPipeline):
        """Encodes no canvas with holes: we encode panel by panel, and take the mean."""

        def prepare_mask_latents(self, *args):
            mask, _ = super().prepare_mask_latents(*args)
            return mask, self.holed

    kinds = {"FluxFillPipeline": Told}
    kind = kinds.get(mine.family.pipeline) or getattr(diffusers, mine.family.pipeline)
    pipe = kind.from_pretrained(mine.folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def encoded(pipe, pixels):
    """Encodes a picture in -1..1 by diffusers' means."""
    with torch.no_grad():
        if hasattr(pipe.vae, "bn"):
            return pipe._pack_latents(pipe._encode_vae_image(pixels, torch.Generator()))[0]
        mode = pipe.vae.encode(pixels).latent_dist.mode()
    scaled = (mode - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor
    return pipe._pack_latents(scaled, *scaled.shape)[0]


def theirs(mine, pipe, *, given=(), way=""):
    """Draws with diffusers' pipeline from the same noise: a canvas, and its tokens.

    It has no given panels but Fill's: after every step they are put back, as our loop does before
    the next one, noised (put-back) or not (clean).
    """
    fill, params = mine.family.needs_blank, mine.config.sample
    grid = Grid(12, 4)
    channels = mine.family.token_channels(pipe.transformer)
    seed = torch.Generator().manual_seed(noise_seed(CAPTION, 3, mine.config.layout))
    noise = torch.randn(grid.count, channels, generator=seed)
    clean, kept = torch.zeros_like(noise), torch.zeros(grid.count, 1, dtype=torch.bool)
    for number in given:
        place = slice(number * 16, number * 16 + 16)
        pixels = torch.from_numpy(np.array(panel(number))).permute(2, 0, 1)[None]
        clean[place], kept[place] = encoded(pipe, pixels / 127.5 - 1), True

    last = []

    def keep(pipe, step, _time, tensors):
        sigma = pipe.scheduler.sigmas[step + 1]
        if not (way == "clean" and fill and sigma > 0):
            known = clean if way == "clean" else (1 - sigma) * clean + sigma * noise
            tensors["latents"] = torch.where(kept, known, tensors["latents"])
        last[:] = tensors["latents"]
        return tensors

    start = torch.where(kept, clean, noise) if way == "clean" and not fill else noise
    extra = {"guidance_scale": params.guidance, "latents": start[None]}
    if fill:
        known = kept & (way == "clean")
        pipe.holed = torch.where(known, clean, encoded(pipe, torch.zeros(1, 3, 96, 32)))[None]
        hole = (~known).reshape(1, 1, *grid).float()
        extra["mask_image"] = hole.repeat_interleave(8, 2).repeat_interleave(8, 3)
        extra["image"] = torch.zeros(1, 3, 96, 32)
    elif hasattr(pipe.vae, "bn"):  # klein has true guidance alone, and packs by itself
        latents = start.T.reshape(1, channels, *grid)
        extra = {"guidance_scale": params.true_cfg, "latents": latents}
    else:
        extra |= {"true_cfg_scale": params.true_cfg, "negative_prompt": ""}
    canvas = pipe(
        prompt=CAPTION,
        width=32,
        height=96,
        num_inference_steps=params.steps,
        max_sequence_length=mine.family.text_length(mine.folder),
        callback_on_step_end=keep,
        **extra,
    ).images[0]
    return np.asarray(canvas, np.int16), last[0]


@pytest.mark.parametrize(
    ("given", "way"),
    [((), "auto"), *[(g, w) for g in ((0,), (0, 2)) for w in ("put-back", "clean")]],
)
def test_our_drawing_is_its_pipelines(mine, tmp_path, given, way):
    """Tokens to 1e-4, pictures to one level of 255; without the adapter it is another one."""
    pipe = pipeline_of(mine)
    free = [row for row in range(96) if row // 32 not in given]
    pictures = []
    for uses in ((), (mine.use,)):
        for use in uses:
            pipe.load_lora_weights(str(Path(use.file).parent), weight_name=Path(use.file).name)
        canvas, latents = theirs(mine, pipe, given=given, way=way)
        found = tokens(mine, given=given, way=way, uses=uses)
        torch.testing.assert_close(found, latents, atol=1e-4, rtol=0)
        ours = draw(mine, tmp_path, given=given, way=way, uses=uses)
        assert np.abs(ours - canvas)[free].max() <= 1  # elsewhere panels were pasted over
        pictures.append(ours[free])
    assert np.abs(pictures[1] - pictures[0]).max() > 10


def test_an_adapter_draws_on_a_base_in_8_bits(mine, tmp_path):
    """Within one level of 255 in the mean, where the adapter changes five."""
    dense, small = draw(mine, tmp_path), draw(mine, tmp_path, weights="fp8")
    assert np.abs(small - dense).mean() < 1
    assert np.abs(dense - draw(mine, tmp_path, uses=())).mean() > 5


ORIGINAL = {
    "flux1": {
        "transformer_blocks.0.attn.to_out.0": "double_blocks.0.img_attn.proj",
        "single_transformer_blocks.0.proj_out": "single_blocks.0.linear2",
    },
    "flux2-klein": {
        "transformer_blocks.0.attn.to_out.0": "double_blocks.0.img_attn.proj",
        "single_transformer_blocks.0.attn.to_out": "single_blocks.0.linear2",
    },
}
"""Layers that have one name in diffusers and one in the original code, which others keep to."""


@pytest.mark.parametrize("mine", ORIGINAL, indirect=True)
def test_files_of_other_trainers_draw_the_same(mine, tmp_path):
    """kohya's and AI-Toolkit's, at half the scale with B twice as large."""
    weights = load_file(mine.use.file)
    ours, kohya, toolkit = {}, {}, {}
    for layer, name in ORIGINAL[mine.family.name].items():
        down, up = (weights[f"transformer.{layer}.lora_{part}.weight"].float() for part in "AB")
        up *= 10  # two layers of few: otherwise hardly to be seen
        ours |= {
            f"transformer.{layer}.lora_A.weight": down,
            f"transformer.{layer}.lora_B.weight": up,
        }
        alpha = {"alpha": torch.tensor(down.shape[0] / 2)}
        flat = {"lora_down.weight": down, "lora_up.weight": up * 2, **alpha}
        dotted = {"lora_A.weight": down, "lora_B.weight": up * 2, **alpha}
        # AI-Toolkit writes FLUX.1 by diffusers' names.
        whole = f"transformer.{layer}" if mine.family.name == "flux1" else f"diffusion_model.{name}"
        kohya |= {f"lora_unet_{name.replace('.', '_')}.{part}": flat[part] for part in flat}
        toolkit |= {f"{whole}.{part}": dotted[part] for part in dotted}
    pictures = [draw(mine, tmp_path, uses=())]
    for number, content in enumerate((ours, kohya, toolkit)):
        file = tmp_path / f"{number}.safetensors"
        save_file(content, file)
        use = mine.use.model_copy(update={"file": str(file), "content": str(number)})
        pictures.append(draw(mine, tmp_path, uses=[use]))
    bare, first, *others = pictures
    assert np.abs(first - bare).max() > 10
    assert all(np.abs(other - first).max() <= 1 for other in others)


def test_the_evaluator_draws_it_and_its_base(mine):
    contest = make_evaluation_plan(mine.store, "mine", None, against="base", dataset="")
    canvas = io.BytesIO()
    Image.fromarray(np.vstack([panel(number) for number in range(3)])).save(canvas, "PNG")
    real = RealSet(
        "a", CAPTION, canvas.getvalue(), contest.config.layout.boxes, contest.config.layout
    )
    suite = PromptSet((CAPTION,), (real,), real_seen=False, withheld=0)
    pictures = []
    for side in contest.arms:
        renders = render_arm(mine.store, contest, side, suite, lambda *_: None)
        assert renders.untouched(contest.config.layout) == [True]
        opened = [open_one() for row in renders.open_free() for open_one in row]
        assert len(opened) == len(contest.config.evaluate.seeds)
        pictures.append([picture.tobytes() for picture in opened])
    assert len(pictures) == 2
    assert pictures[0] != pictures[1]
