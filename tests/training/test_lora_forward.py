"""The adapter's branch: peft's numbers with less work."""

from __future__ import annotations

import pytest
import torch
from peft.tuners.lora.layer import LoraLayer

from iclora.models.families import Grid
from iclora.models.families.flux1 import FAMILY
from iclora.training.lora import add_lora, lora_config, lora_tensors
from iclora.training.loss import MicroBatch, autocast, compute_losses

GRID = Grid(2, 3)


def batch(transformer):
    """Two samples of random numbers."""
    sizes = transformer.config
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, GRID.count, sizes.in_channels, generator=generator)
    text = {
        "embeds": torch.randn(2, 5, sizes.joint_attention_dim, generator=generator),
        "pooled": torch.randn(2, sizes.pooled_projection_dim, generator=generator),
    }
    return MicroBatch(
        latents, noise, torch.tensor([0.2, 0.7]), text, GRID,
        torch.zeros(2, GRID.count, dtype=torch.int64), torch.ones(2, GRID.count), None,
        torch.ones(2),
    )  # fmt: skip


def step(tiny_flux, precision, *, ours):
    """Loss, gradients and the bytes that the forward pass keeps for the backward one."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    transformer = FAMILY.load_transformer(tiny_flux, dtype=dtype)
    tensors = add_lora(transformer, FAMILY, rank=2, seed=0)
    if not ours:
        state = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        transformer = FAMILY.load_transformer(tiny_flux, dtype=dtype)
        transformer.add_adapter(lora_config(FAMILY, 2))
        tensors = lora_tensors(transformer)
        for name, tensor in tensors.items():
            tensor.data = state[name]
    for name, tensor in tensors.items():
        if ".lora_B." in name:
            tensor.data.fill_(0.01)
    kept: dict[int, int] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, autocast(precision, torch.device("cpu")):
        loss = compute_losses(FAMILY, transformer, batch(transformer), guidance=1.0).samples.sum()
    loss.backward()
    return loss.detach(), {name: tensor.grad for name, tensor in tensors.items()}, kept


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_loss_and_gradients_are_pefts_to_the_last_bit(tiny_flux, precision):
    loss, gradients, kept = step(tiny_flux, precision, ours=True)
    other, theirs, more = step(tiny_flux, precision, ours=False)
    assert torch.equal(loss, other)
    assert all(torch.equal(gradients[name], value) for name, value in theirs.items())
    assert any(value.any() for value in gradients.values())
    saved, before = sum(kept.values()), sum(more.values())
    assert saved < before if precision == "bf16" else saved == before


def test_without_autocast_half_precision_inputs_meet_the_adapter_in_full(tiny_flux):
    transformer = FAMILY.load_transformer(tiny_flux, dtype=torch.bfloat16)
    add_lora(transformer, FAMILY, rank=2, seed=0)
    loss = compute_losses(FAMILY, transformer, batch(transformer), guidance=1.0).samples.sum()
    loss.backward()
    assert torch.isfinite(loss)


def test_every_layer_of_the_adapter_takes_the_short_way(tiny_flux):
    transformer = FAMILY.load_transformer(tiny_flux, dtype=torch.float32)
    add_lora(transformer, FAMILY, rank=2, seed=0)
    layers = [module for module in transformer.modules() if isinstance(module, LoraLayer)]
    for layer in layers:  # peft's own way would now change the numbers
        layer.scaling["default"] = 5.0
    loss = compute_losses(FAMILY, transformer, batch(transformer), guidance=1.0).samples.sum()
    loss.backward()
    again = FAMILY.load_transformer(tiny_flux, dtype=torch.float32)
    tensors = add_lora(again, FAMILY, rank=2, seed=0)
    compute_losses(FAMILY, again, batch(again), guidance=1.0).samples.sum().backward()
    for name, tensor in lora_tensors(transformer).items():
        assert torch.equal(tensor.grad, tensors[name].grad)
