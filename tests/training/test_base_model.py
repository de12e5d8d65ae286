"""How the frozen base is held, and what lies under it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from training_config import with_train

from iclora.errors import BadConfig, BadInput
from iclora.models.families import Grid
from iclora.models.families.flux1 import FAMILY
from iclora.train import train_adapter
from iclora.training.base_model import load_base, prepare_speed
from iclora.training.distributed import DistEnv
from iclora.training.lora import add_lora, lora_header, save_lora
from iclora.training.optimizer import AdapterOptimizer
from iclora.training.run_inputs import open_job
from schemas.training import OptimizerParams, TrainParams

TEXT = {"embeds": torch.ones(1, 4, 32), "pooled": torch.ones(1, 32)}


@pytest.fixture
def under(tiny_flux, tmp_path):
    """An adapter that lies under a base, and the base's answer with it as diffusers loads it."""
    transformer = FAMILY.load_transformer(tiny_flux, dtype=torch.float32)
    tensors = add_lora(transformer, FAMILY, rank=3, seed=0)
    torch.manual_seed(1)
    for tensor in tensors.values():
        tensor.data.normal_(0.0, 0.2)
    file = tmp_path / "under.safetensors"
    save_lora(file, tensors, lora_header(transformer.peft_config["default"], {}), "fp32")
    return file, answer(transformer)


@torch.no_grad()
def answer(transformer):
    tokens = torch.linspace(-1.0, 1.0, 128).view(1, 4, 32)
    out = FAMILY.predict(
        transformer, tokens, torch.tensor([0.5]), TEXT, grid=Grid(2, 2), guidance=1.0
    )
    return out.float()


@pytest.mark.parametrize(("weights", "error"), [("dense", 1e-4), ("fp8", 0.1)])
def test_a_training_adapter_lies_under_the_base(store, dataset, config, under, weights, error):
    file, wanted = under
    config = with_train(config, training_adapter=str(file), weights=weights)
    transformer, _, _ = load_base(open_job(store, dataset, config, "mine"), DistEnv(), 64)
    bare = answer(FAMILY.load_transformer(Path(config.base.model), dtype=torch.float32))
    got = answer(transformer)
    assert float((got - wanted).norm() / wanted.norm()) < error
    assert float((bare - wanted).norm() / wanted.norm()) > 2 * error
    held = {p.dtype for p in transformer.transformer_blocks[0].attn.to_q.parameters()}
    assert held == {torch.float8_e4m3fn if weights == "fp8" else torch.float32}


LAYER, ORIGINAL = "transformer_blocks.0.attn.to_out.0", "double_blocks_0_img_attn_proj"
"""One layer as diffusers and as the original code name it."""

STYLES = {
    "peft, alpha in the header": (f"transformer.{LAYER}.lora_A", f"transformer.{LAYER}.lora_B", ""),
    "peft": (f"transformer.{LAYER}.lora_A", f"transformer.{LAYER}.lora_B", f"transformer.{LAYER}"),
    "diffusers": (
        f"transformer.{LAYER}.lora.down",
        f"transformer.{LAYER}.lora.up",
        f"transformer.{LAYER}",
    ),
    "kohya": tuple(f"lora_unet_{ORIGINAL}{end}" for end in (".lora_down", ".lora_up", "")),
}
"""Names of the two matrices and of the alpha's layer."""


@pytest.mark.parametrize("style", STYLES)
def test_a_training_adapter_lies_under_at_its_own_scale(store, dataset, config, tmp_path, style):
    """alpha / rank is 6 / 2."""
    bare = FAMILY.load_transformer(Path(config.base.model), dtype=torch.float32)
    weight = bare.get_submodule(LAYER).weight
    down, up = torch.randn(2, weight.shape[1]), torch.randn(weight.shape[0], 2)
    names = STYLES[style]
    tensors = {f"{names[0]}.weight": down, f"{names[1]}.weight": up}
    header = {}
    if names[2]:
        tensors[f"{names[2]}.alpha"] = torch.tensor(6.0)
    else:
        settings = {"transformer.r": 2, "transformer.lora_alpha": 6}
        header = {"lora_adapter_metadata": json.dumps(settings)}
    safetensors.torch.save_file(tensors, tmp_path / "under.safetensors", header)
    config = with_train(config, training_adapter=str(tmp_path / "under.safetensors"))
    transformer, _, _ = load_base(open_job(store, dataset, config, "mine"), DistEnv(), 64)
    fused = transformer.get_submodule(LAYER).weight
    torch.testing.assert_close(fused.float(), weight + 3.0 * up @ down, atol=1e-4, rtol=1e-4)


def test_the_published_adapter_holds_nothing_of_it(store, dataset, config, under):
    file, _ = under
    config = with_train(config, training_adapter=str(file))
    folder = Path(train_adapter(store, dataset, config, "mine").url)
    ours = safetensors.torch.load_file(folder / "mine.safetensors")
    ranks = {tensor.shape[0] for name, tensor in ours.items() if ".lora_A." in name}
    assert ranks == {config.train.lora.rank} == {2}


def test_a_training_adapter_that_is_not_there_is_named(store, dataset, config):
    config = with_train(config, training_adapter="nowhere.safetensors")
    with pytest.raises(BadInput, match=r"train\.training_adapter: nowhere\.safetensors"):
        load_base(open_job(store, dataset, config, "mine"), DistEnv(), 64)


def test_an_attention_backend_is_chosen_by_name(tiny_flux):
    transformer = FAMILY.load_transformer(tiny_flux, dtype=torch.float32)
    plain = answer(transformer)
    prepare_speed(transformer, TrainParams(attention_backend="_native_math"))
    torch.testing.assert_close(answer(transformer), plain, atol=1e-5, rtol=1e-4)
    with pytest.raises(BadConfig, match=r"train\.attention_backend = 'fastest'"):
        prepare_speed(transformer, TrainParams(attention_backend="fastest"))


@pytest.mark.slow
@pytest.mark.timeout(600)
# The compiler itself looks at the gradients of tensors between the blocks.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_blocks_train_the_same_adapter(tmp_path, store, dataset, config):
    plain = with_train(config, lora={"save_dtype": "fp32"}, activation_checkpointing=0.5)
    one, two = (
        Path(train_adapter(store, dataset, changed, "mine").url) / "mine-raw.safetensors"
        for changed in (plain, with_train(plain, compile=True))
    )
    ours, theirs = safetensors.torch.load_file(one), safetensors.torch.load_file(two)
    assert one != two
    assert ours.keys() == theirs.keys()  # no name says that it was compiled
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, atol=1e-4, rtol=1e-3)


class Counting(torch.optim.SGD):
    """Keeps a step in an int, as bitsandbytes does, and takes nothing else."""

    def step(self, closure=None):
        for group in self.param_groups:
            for tensor in group["params"]:
                memory = self.state[tensor]
                memory["step"] = memory.get("step", 0) + 1
                assert isinstance(memory["step"], int)
        return super().step(closure)


def stepped(learner, steps):
    for step in steps:
        for tensor in learner.tensors.values():
            draw = torch.Generator().manual_seed(step)
            tensor.grad = torch.randn(tensor.shape, generator=draw)
        learner.update(step)
    return {name: tensor.detach().clone() for name, tensor in learner.tensors.items()}


def resumes(params):
    def fresh():
        return AdapterOptimizer({"a": torch.nn.Parameter(torch.ones(16, 640))}, params, 9)

    first = fresh()
    raw = stepped(first, range(3))
    average = {name: tensor.clone() for name, tensor in first.ema.items()}
    tensors, numbers = first.optimizer_state()
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    second = fresh()
    second.restore(raw, average, kept, {name: float(value) for name, value in numbers.items()})
    ours, theirs = stepped(first, range(3, 6)), stepped(second, range(3, 6))
    return torch.equal(ours["a"], theirs["a"])


def test_an_optimizer_that_counts_in_whole_numbers_resumes(monkeypatch):
    monkeypatch.setattr(torch.optim, "AdamW", lambda tensors, **_: Counting(tensors, lr=0.1))
    assert resumes(OptimizerParams())


def test_an_8_bit_optimizer_that_is_not_installed_is_told_before_anything_is_encoded(
    store, dataset, config, monkeypatch
):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name)
    )
    config = with_train(config, optimizer={"name": "adamw8bit"})
    with pytest.raises(BadConfig, match="pip install bitsandbytes, or set it to 'adamw'"):
        train_adapter(store, dataset, config, "mine")
    assert not store.exists("cache")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs the extra nf4")
def test_8_bit_adamw_resumes_with_the_same_bytes():
    assert resumes(OptimizerParams(name="adamw8bit"))
