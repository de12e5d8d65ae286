"""What is decided before step 1."""

from __future__ import annotations

import pytest
import torch

from iclora.errors import BadConfig
from iclora.models.families import Grid
from iclora.presets import load_config
from iclora.training import plan_training
from iclora.training.activation_checkpointing import ActivationCheckpointing, repeated_blocks
from iclora.training.ai_toolkit import read_ai_toolkit
from iclora.training.memory import (
    BASE_BYTES,
    KEPT_BYTES,
    RESERVE,
    MemoryOption,
    MemoryPlan,
    ModelShape,
    choose_weights,
    estimate_step_bytes,
    memory_options,
    options_that_fit,
)
from schemas.training import TrainParams

GIB = 2**30
FLUX = ModelShape(11_901_408_320, 85_917_696, 57, 3072)


def test_the_estimate_agrees_with_the_measurements_on_flux():
    """33.3 GiB of activations at 1024 px without recomputation, 1.6 GiB with."""
    bare = FLUX.parameters * BASE_BYTES["dense"] + FLUX.adapter * 20 + RESERVE
    kept = estimate_step_bytes(FLUX, "dense", MemoryOption(0.0, 1), 4608) - bare
    assert kept / GIB == pytest.approx(33.3, rel=0.05)
    again = estimate_step_bytes(FLUX, "dense", MemoryOption(1.0, 1), 4608) - bare
    assert 1.6 < again / GIB < 2.6


def kept_bytes(blocks, tokens):
    """What autograd keeps of ``blocks`` double and twice as many single blocks of FLUX.1's kind."""
    from diffusers import FluxTransformer2DModel

    from iclora.models.families.flux1 import FAMILY
    from iclora.training.lora import add_lora

    transformer = FluxTransformer2DModel(
        num_layers=blocks, num_single_layers=2 * blocks, num_attention_heads=2,
        guidance_embeds=True, joint_attention_dim=16, pooled_projection_dim=16,
    ).to(torch.bfloat16)  # fmt: skip
    transformer.requires_grad_(False)
    add_lora(transformer, FAMILY, rank=16, seed=0)
    weights = {tensor.untyped_storage().data_ptr() for tensor in transformer.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    text = {"embeds": torch.zeros(1, tokens // 2, 16), "pooled": torch.zeros(1, 16)}
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16):
        FAMILY.predict(
            transformer, torch.ones(1, tokens // 2, 64), torch.tensor([0.5]), text,
            grid=Grid(tokens // 16, 8), guidance=1.0,
        )  # fmt: skip
    return sum(storage.nbytes() for storage in kept.values())


def test_autograd_keeps_what_the_estimate_reckons_with():
    per_token = [(kept_bytes(n, 128) - kept_bytes(n, 64)) / 64 for n in (1, 2)]
    measured = (per_token[1] - per_token[0]) / (3 * 2 * 128)  # three blocks of that width
    assert KEPT_BYTES * 0.95 < measured < KEPT_BYTES


def test_what_fits_on_common_cards():
    auto = TrainParams(batch=4)
    every = ("dense", "fp8", "nf4")
    assert choose_weights(FLUX, auto, 6656, 79 * GIB, every) == "dense"
    assert choose_weights(FLUX, auto, 6656, 23.5 * GIB, every) == "fp8"
    assert choose_weights(FLUX, auto, 4608, 15.5 * GIB, every) == "nf4"
    with pytest.raises(BadConfig, match="GiB are free"):
        choose_weights(FLUX, auto, 6656, 8 * GIB, every)
    asked = auto.model_copy(update={"weights": "dense"})
    with pytest.raises(BadConfig, match="dense"):
        choose_weights(FLUX, asked, 6656, 23.5 * GIB, every)


def test_the_first_rung_that_fits_is_taken():
    rungs = memory_options(4, TrainParams())
    assert rungs[0] == MemoryOption(0.0, 4)
    assert rungs[-1] == MemoryOption(1.0, 1)
    wide = options_that_fit(FLUX, "dense", rungs, 4608, 141 * GIB)[0]
    assert wide == MemoryOption(0.0, 2)
    need = estimate_step_bytes(FLUX, "dense", wide, 4608)
    assert options_that_fit(FLUX, "dense", rungs, 4608, need)[0] == wide
    assert options_that_fit(FLUX, "dense", rungs, 4608, need - 1)[0] == MemoryOption(0.0, 1)
    assert options_that_fit(FLUX, "dense", rungs, 4608, 0) == [MemoryOption(1.0, 1)]
    fixed = TrainParams(memory_plan="fixed", activation_checkpointing=0.5, micro_batch=2)
    assert memory_options(4, fixed) == [MemoryOption(0.5, 2)]


def test_ladders_go_down_and_end(tiny_flux):
    from iclora.models.families.flux1 import FAMILY

    transformer = FAMILY.load_transformer(tiny_flux, dtype=torch.float32)
    train = TrainParams(activation_checkpointing=0.0)
    ladders = MemoryPlan(train, ActivationCheckpointing(transformer), 2)
    grid, seen = Grid(1, 1), []
    while True:
        seen.append(ladders.option(grid))
        if not ladders.fall_back(grid):
            break
    assert seen[:2] == [MemoryOption(0.0, 2), MemoryOption(0.0, 1)]
    assert seen[-1] == MemoryOption(1.0, 1)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.5, 1), (1.0, 2)])
def test_recomputation_changes_memory_not_gradients(tiny_flux, share, count):
    from iclora.models.families.flux1 import FAMILY

    transformer = FAMILY.load_transformer(tiny_flux, dtype=torch.float32)
    assert len(repeated_blocks(transformer)) == 2
    weight = transformer.x_embedder.weight.requires_grad_(True)
    text = {"embeds": torch.ones(1, 4, 32), "pooled": torch.ones(1, 32)}

    def gradient(how):
        recompute = ActivationCheckpointing(transformer)
        assert recompute.set_share(how) == (count if how else 0)
        weight.grad = None
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            out = FAMILY.predict(
                transformer, torch.ones(1, 4, 32), torch.tensor([0.5]), text,
                grid=Grid(2, 2), guidance=1.0,
            )  # fmt: skip
        out.square().sum().backward()
        return weight.grad.clone(), len(kept)

    (plain, saved), (other, fewer) = gradient(0.0), gradient(share)
    torch.testing.assert_close(plain, other)
    assert (fewer < saved) == (share > 0)


def test_a_plan_needs_no_weights(store, publish, paint):
    samples = [paint(n, heights=(512, 512, 512), width=1024) for n in range(3)]
    name = publish(store, [*samples, paint(9, heights=(256, 256, 256), width=512)])
    config = load_config("movie-shots", {"base.model": "nobody/never-released"})
    plan = plan_training(store, name, config, memory=79)
    assert plan.base == "nobody/never-released (not here)"
    assert (plan.weights, plan.device) == ("dense", "79.0 GiB free")
    sizes = {(b.resolution, b.width, b.height): b.samples for b in plan.buckets}
    assert sizes[512, 416, 624] == 4
    assert sizes[1024, 512, 768] == 1  # never enlarged
    assert sum(b.samples for b in plan.buckets) == 12
    assert plan.epochs == 5000
    assert plan.checkpoints == (4250, 4500, 4750, 5000)


def test_the_published_file_plans(store, publish, paint, reference):
    sizes = [(1080, 1413), (1080, 1363)]
    heights = [(height // 3, height // 3, height - 2 * (height // 3)) for _, height in sizes]
    samples = [paint(n, heights=parts, width=1080) for n, parts in enumerate(heights)]
    config = read_ai_toolkit(reference / "movie-shots.yml").config
    plan = plan_training(store, publish(store, samples), config, memory=23.5)
    assert plan.weights == "fp8"
    assert {b.resolution for b in plan.buckets} == {512, 768, 1024, 1280, 1536}
    assert max(b.width for b in plan.buckets) <= 1080
    assert plan.batch == 4


@pytest.mark.parametrize(
    ("share", "tera"), [(0.0, 45.09), pytest.param(1.0, 66.72, marks=pytest.mark.slow)]
)
def test_operations_are_counted_as_on_flux(share, tera):
    """At 512x512 with rank 16, on the meta device: what HFU is divided by."""
    from iclora.models.families.flux1 import FAMILY
    from iclora.training.lora import add_lora
    from iclora.training.perf import count_flops

    transformer = FAMILY.meta_transformer().requires_grad_(False)
    with torch.device("meta"):
        add_lora(transformer, FAMILY, rank=16, seed=0)
        text = {"embeds": torch.ones(1, 512, 4096), "pooled": torch.ones(1, 768)}
        tokens, t = torch.ones(1, 1024, 64), torch.ones(1)
    ActivationCheckpointing(transformer).set_share(share)

    def step():
        out = FAMILY.predict(transformer, tokens, t, text, grid=Grid(32, 32), guidance=1.0)
        out.sum().backward()

    flops, _ = count_flops(step)
    assert flops / 1e12 == pytest.approx(tera, rel=0.01)


def test_a_plan_of_a_preview_warns_and_is_given(store, publish, paint, caplog):
    name = publish(store, [paint(0)], preview=True)
    plan = plan_training(store, name, load_config("flux1-dev"))
    assert plan.samples == 1
    assert "training would be refused" in caplog.text
