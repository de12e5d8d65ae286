"""The family loads with the libraries alone, offline, and its parts fit together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from iclora.miniature.captions import mosaic_caption, set_caption
from iclora.miniature.draw import render_panel
from iclora.miniature.family import build_random_family
from iclora.miniature.script import NAMES
from iclora.miniature.sizes import TINY, FamilySize
from iclora.miniature.tokenizer import END, build_tokenizer
from iclora.miniature.world import random_attributes, random_view, seeded

RNG = seeded("family", 0)
PANELS = [random_attributes(RNG) for _ in range(3)]
LONGEST = mosaic_caption(PANELS, NAMES[:3])


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    build_random_family(folder, size=TINY)
    return folder


def test_equal_seeds_give_equal_files(family, tmp_path) -> None:
    build_random_family(tmp_path, size=TINY)
    for file in family.rglob("*.*"):
        if file.is_file():
            assert (tmp_path / file.relative_to(family)).read_bytes() == file.read_bytes(), file


def test_weights_are_half_precision_safetensors_only(family) -> None:
    from safetensors import safe_open

    names = {file.name for file in family.rglob("*") if file.is_file()}
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl", ".py"))}
    for file in family.rglob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            kinds = {weights.get_tensor(name).dtype for name in weights.keys()}  # noqa: SIM118 - not a mapping
        assert kinds == {torch.bfloat16}, file


@pytest.mark.parametrize("framing", ["both", "end", "none"])
def test_tokenizer_keeps_every_text_and_ends_highest(framing) -> None:
    tokenizer = build_tokenizer(framing, context=128)
    assert tokenizer.convert_tokens_to_ids(END) == len(tokenizer) - 1
    for text in (LONGEST, set_caption(PANELS, "Ann"), "Any <Zoë> — other, text ##7 [LEFT]"):
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    assert len(tokenizer(LONGEST).input_ids) <= FamilySize().context


def test_open_clip_loads_it(family) -> None:
    import open_clip

    name = f"local-dir:{family / 'clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)([LONGEST, "a"])
    assert tokens.max() == model.vocab_size - 1
    assert (tokens.argmax(dim=1) == (tokens == tokens.max()).int().argmax(dim=1)).all()
    pixels = preprocess(render_panel(PANELS[0], random_view(RNG)))[None]
    assert pixels.shape == (1, 3, 64, 64)
    assert model.encode_image(pixels).shape == model.encode_text(tokens)[:1].shape


def test_transformers_loads_the_vlm(family) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(family / "vlm", local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(family / "vlm", local_files_only=True)
    assert next(model.parameters()).dtype == torch.float32
    picture = render_panel(PANELS[0], random_view(RNG), side=96)
    asked = [{"type": "image", "image": picture}, {"type": "text", "text": "Describe it."}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": asked}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == 64
    said = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert said.shape[1] <= inputs["input_ids"].shape[1] + 4


def test_diffusers_loads_and_runs_flux(family) -> None:
    from diffusers import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(family / "flux", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        LONGEST,
        width=64,
        height=192,
        num_inference_steps=2,
        max_sequence_length=128,
        generator=torch.Generator().manual_seed(0),
    ).images[0]
    assert picture.size == (64, 192)


def test_flux_speaks_as_flux_dev_does(family) -> None:
    vae = json.loads((family / "flux" / "vae" / "config.json").read_bytes())
    assert vae["scaling_factor"] != 1
    assert vae["shift_factor"] is not None
    transformer = json.loads((family / "flux" / "transformer" / "config.json").read_bytes())
    assert transformer["guidance_embeds"]
    assert transformer["in_channels"] == 4 * vae["latent_channels"]
    assert sum(transformer["axes_dims_rope"]) == transformer["attention_head_dim"]
    schedule = json.loads((family / "flux" / "scheduler" / "scheduler_config.json").read_bytes())
    assert schedule["use_dynamic_shifting"]


def test_nothing_of_ours_is_needed_to_load(family) -> None:
    code = (
        "import sys, open_clip\n"
        "from transformers import AutoModelForImageTextToText\n"
        "open_clip.create_model_and_transforms('local-dir:' + sys.argv[1] + '/clip')\n"
        "AutoModelForImageTextToText.from_pretrained(sys.argv[1] + '/vlm')\n"
        "assert 'iclora' not in sys.modules\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, str(family)]
    subprocess.run(command, check=True, env=environment, cwd=family)
