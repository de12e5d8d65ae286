"""Adapter files: what others wrote can be started from."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from iclora.errors import BadInput
from iclora.models.families import load_family
from iclora.models.families.flux1 import FAMILY
from iclora.training.lora import add_lora, load_start, lora_header, save_lora


@pytest.fixture
def fresh(tiny_flux):
    def make(rank, seed=1):
        transformer = FAMILY.load_transformer(tiny_flux, dtype=torch.float32)
        return transformer, add_lora(transformer, FAMILY, rank=rank, seed=seed)

    return make


def trained(tensors):
    return {name: torch.randn(tensor.shape) for name, tensor in tensors.items()}


def change(tensors, layer):
    """What an adapter adds to a layer."""
    down, up = (tensors[f"{layer}.lora_{part}.weight"].detach() for part in "AB")
    return up @ down


LAYER = "transformer_blocks.0.attn.to_q"


def test_ours_comes_back_and_equal_content_is_equal_bytes(fresh, tmp_path):
    transformer, tensors = fresh(2)
    weights = trained(tensors)
    header = lora_header(transformer.peft_config["default"], {"b": "1", "a": "2"})
    for name in ("one", "two"):
        save_lora(tmp_path / name, weights, header, "fp32")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    load_start(tensors, tmp_path / "one", FAMILY)
    assert all(torch.equal(tensors[name], value) for name, value in weights.items())


def test_alphas_of_others_are_folded_in(fresh, tmp_path):
    _, tensors = fresh(2)
    weights = trained(tensors)
    file = {f"transformer.{name}": value for name, value in weights.items()}
    alphas = {name.replace(".lora_A.weight", ".alpha"): torch.tensor(1.0)
              for name in file if ".lora_A." in name}  # fmt: skip
    safetensors.torch.save_file(file | alphas, tmp_path / "alpha")
    load_start(tensors, tmp_path / "alpha", FAMILY)
    torch.testing.assert_close(change(tensors, LAYER), change(weights, LAYER) / 2)

    transformer, tensors = fresh(2)
    transformer.peft_config["default"].lora_alpha = 6
    save_lora(
        tmp_path / "header", weights, lora_header(transformer.peft_config["default"], {}), "fp32"
    )
    load_start(tensors, tmp_path / "header", FAMILY)
    torch.testing.assert_close(change(tensors, LAYER), change(weights, LAYER) * 3)


def test_kohya_is_converted(tmp_path):
    """At the released widths, which kohya's converter takes for granted."""
    transformer = FAMILY.meta_transformer()
    with torch.device("meta"):
        tensors = add_lora(transformer, FAMILY, rank=2, seed=0)
    names = {name for name in tensors if name.startswith("single_transformer_blocks.0.")}
    part = {name: torch.zeros(tensors[name].shape) for name in names}
    prefix = "lora_unet_single_blocks_0_"
    file = {
        f"{prefix}linear2.lora_down.weight": torch.ones(2, 15360),
        f"{prefix}linear2.lora_up.weight": torch.ones(3072, 2),
        f"{prefix}linear2.alpha": torch.tensor(1.0),
    }
    safetensors.torch.save_file(file, tmp_path / "kohya")
    load_start(part, tmp_path / "kohya", FAMILY)
    layer = "single_transformer_blocks.0.proj_out"
    torch.testing.assert_close(change(part, layer), torch.ones(3072, 15360))  # 2 ones * alpha/rank
    assert not part["single_transformer_blocks.0.attn.to_q.lora_B.weight"].any()


def test_smaller_ranks_fit_larger_do_not(fresh, tmp_path):
    transformer, small = fresh(1)
    weights = trained(small)
    save_lora(
        tmp_path / "small", weights, lora_header(transformer.peft_config["default"], {}), "fp32"
    )
    _, tensors = fresh(2)
    load_start(tensors, tmp_path / "small", FAMILY)
    torch.testing.assert_close(change(tensors, LAYER), change(weights, LAYER))
    _, tensors = fresh(2)
    save_lora(
        tmp_path / "large",
        trained(tensors),
        lora_header(transformer.peft_config["default"], {}),
        "fp32",
    )
    with pytest.raises(BadInput, match=r"train\.lora\.rank"):
        load_start(small, tmp_path / "large", FAMILY)


def test_other_bases_and_missing_files_are_refused(fresh, tmp_path):
    _, tensors = fresh(2)
    with pytest.raises(BadInput, match="does not exist"):
        load_start(tensors, tmp_path / "none", FAMILY)
    other = {"transformer.elsewhere.lora_A.weight": torch.zeros(2, 2)}
    safetensors.torch.save_file(other, tmp_path / "other")
    with pytest.raises(BadInput, match="elsewhere"):
        load_start(tensors, tmp_path / "other", FAMILY)


COMFY_DOUBLE = {
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj",
    "attn.add_v_proj", "attn.to_add_out", "norm1.linear", "norm1_context.linear",
    "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
    "ff.linear_in", "ff.linear_out", "ff_context.linear_in", "ff_context.linear_out",
}  # fmt: skip
COMFY_SINGLE = {
    "attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "norm.linear", "proj_out",
    "attn.to_qkv_mlp_proj", "attn.to_out",
}  # fmt: skip
"""The layers that ComfyUI's ``flux_to_diffusers`` (comfy/utils.py) maps; its comfy/lora.py puts
``transformer.`` before them and takes ``lora_A.weight`` and ``lora_B.weight`` after them."""


@pytest.mark.parametrize(
    ("name", "double", "single", "count"),
    [("flux1", 19, 38, 988), ("flux1-fill", 19, 38, 988), ("flux2-klein", 5, 20, 200)],
)
def test_comfyui_maps_every_key_that_we_write(name, double, single, count):
    family = load_family(name)
    transformer = family.meta_transformer()
    with torch.device("meta"):
        tensors = add_lora(transformer, family, rank=2, seed=0)
    known = {
        f"{blocks}.{number}.{layer}.lora_{part}.weight"
        for blocks, depth, layers in (
            ("transformer_blocks", double, COMFY_DOUBLE),
            ("single_transformer_blocks", single, COMFY_SINGLE),
        )
        for number in range(depth)
        for layer in layers
        for part in "AB"
    }
    assert len(tensors) == count
    assert set(tensors) <= known
