"""Adapter files are read as diffusers and peft would wear them."""

from __future__ import annotations

import json

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer
from safetensors.torch import load_file, save_file

from iclora.errors import BadInput
from iclora.models.families.flux1 import FAMILY
from iclora.models.lora_files import read_lora

LAYERS = ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.attn.to_k")
RANKS = (2, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from iclora.miniature.flux_folder import build_flux, save_flux
    from iclora.miniature.sizes import TINY

    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("tiny") / "flux"
    save_flux(build_flux(TINY), place)
    return place


def transformer(folder):
    return FAMILY.load_transformer(folder, dtype=torch.float32)


@pytest.fixture
def tensors(folder):
    """A LoRA of two layers, each of its own rank."""
    model, found = transformer(folder), {}
    for layer, rank in zip(LAYERS, RANKS, strict=True):
        rows, columns = model.get_submodule(layer).weight.shape
        found[f"transformer.{layer}.lora_A.weight"] = torch.randn(rank, columns)
        found[f"transformer.{layer}.lora_B.weight"] = torch.randn(rows, rank)
    return found


def worn(folder, file):
    """Gives what diffusers and peft add to each layer."""
    from diffusers import FluxPipeline

    model = transformer(folder)
    state, alphas, settings = FluxPipeline.lora_state_dict(
        str(file), return_alphas=True, return_lora_metadata=True
    )
    alphas = None if settings else alphas
    model.load_lora_adapter(state, network_alphas=alphas, metadata=settings)
    return {
        name: module.get_delta_weight(module.active_adapters[0])
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }


def ours(file):
    found = read_lora(file, FAMILY)
    return {
        layer: found[f"{layer}.lora_B.weight"] @ found[f"{layer}.lora_A.weight"] for layer in LAYERS
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 2, "lora_alpha": 2, "rank_pattern": {LAYERS[1]: 4}},
        {"r": 2, "lora_alpha": 6, "rank_pattern": {LAYERS[1]: 4}},
        {"r": 2, "rank_pattern": {LAYERS[1]: 4}, "alpha_pattern": {"attn.to_k": 1}},
        {"r": 4, "lora_alpha": 6, "rank_pattern": {LAYERS[0]: 2}, "use_rslora": True},
    ],
)
def test_the_headers_scales_are_multiplied_in(folder, tensors, tmp_path, settings):
    whole = {"target_modules": list(LAYERS), "lora_alpha": 8, **settings}
    flat = {f"transformer.{name}": value for name, value in whole.items()}
    save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(flat)})
    torch.testing.assert_close(
        ours(tmp_path / "a.safetensors"), worn(folder, tmp_path / "a.safetensors")
    )


@pytest.mark.parametrize("names", [("lora_A", "lora_B"), ("lora.down", "lora.up")])
def test_each_layers_own_alpha_is_multiplied_in(folder, tensors, tmp_path, names):
    named = {
        name.replace("lora_A", names[0]).replace("lora_B", names[1]): value
        for name, value in tensors.items()
    }
    named |= {f"transformer.{LAYERS[0]}.alpha": torch.tensor(1.0)}
    named |= {f"transformer.{LAYERS[1]}.alpha": torch.tensor(8.0)}
    save_file(named, tmp_path / "a.safetensors")
    torch.testing.assert_close(
        ours(tmp_path / "a.safetensors"), worn(folder, tmp_path / "a.safetensors")
    )


def test_without_any_alpha_the_tensors_are_the_files(tensors, tmp_path):
    halves = {name: value.half() for name, value in tensors.items()}
    save_file(halves, tmp_path / "a.safetensors")
    found = read_lora(tmp_path / "a.safetensors", FAMILY)
    assert found.keys() == {name.removeprefix("transformer.") for name in halves}
    for name, value in load_file(tmp_path / "a.safetensors").items():
        assert found[name.removeprefix("transformer.")].dtype == value.dtype
        assert torch.equal(found[name.removeprefix("transformer.")], value)


@pytest.mark.parametrize(
    "names",
    [
        ["lora_transformer_proj_out.lora_down.weight", "other.lora_down.weight"],
        ["lora_unet_double_blocks_x_img_mlp_0.lora_down.weight"],
        ["base_model.model.x.lora_A.weight"],
    ],
)
def test_keys_of_no_known_layout_are_one_sentence(tmp_path, names):
    """Among them what diffusers' converters answer with an assertion."""
    save_file({name: torch.zeros(2, 2) for name in names}, tmp_path / "odd.safetensors")
    with pytest.raises(BadInput, match=r"odd\.safetensors is no LoRA of this base: "):
        read_lora(tmp_path / "odd.safetensors", FAMILY)


def test_a_file_that_is_no_safetensors_is_one_sentence(tmp_path):
    (tmp_path / "odd.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(BadInput, match=r"odd\.safetensors is no LoRA of this base: "):
        read_lora(tmp_path / "odd.safetensors", FAMILY)
