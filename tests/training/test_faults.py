"""Losses that are not finite, and memory that runs out."""

from __future__ import annotations

import pytest
import torch
from training_child import Sick
from training_config import with_train

from iclora.models.families.flux1 import Flux1
from iclora.training.distributed import DistEnv
from iclora.training.lora import add_lora
from iclora.training.metrics import final_loss, read_metrics
from iclora.training.run import build_trainer
from iclora.training.run_inputs import fill_caches, open_job, read_training_data
from iclora.training.signals import StopRequest, TrainingBroken


class Narrow(Flux1):
    """A device that has room for one sample."""

    def predict(self, transformer, tokens, *arguments, **options):
        if tokens.shape[0] > 1:
            raise torch.OutOfMemoryError("one sample fits")
        return super().predict(transformer, tokens, *arguments, **options)


@pytest.fixture
def build(store, dataset, config):
    """Assembles a loop whose family is replaced."""

    def make(family=None, *, name="mine", **train):
        changed = with_train(config, **({"validate_every": 0, "steps": 6} | train))
        job = open_job(store, dataset, changed, name)
        material = read_training_data(job.dataset, job.config.data, job.config.train, 8)
        dist = DistEnv()
        fill_caches(job, material, dist.device)
        job.work_folder.mkdir(parents=True, exist_ok=True)
        return build_trainer(job._replace(family=family or job.family), material, dist)

    return make


def trained(loop):
    loop.train(StopRequest(), lambda _: None)
    return {
        name: tensor.detach().clone() for name, tensor in loop.context.optimizer.tensors.items()
    }


def test_a_bad_step_is_skipped_and_counted_not_zeroed(build):
    loop = build(Sick({2}))
    trained(loop)
    rows = read_metrics(loop.folder / "metrics.jsonl")
    assert [row["loss"] is None for row in rows] == [False, True, False, False, False, False]
    assert (loop.progress.step, loop.progress.skipped, loop.progress.rollbacks) == (6, 1, 0)
    assert final_loss(loop.folder / "metrics.jsonl") > 0
    assert all(torch.isfinite(tensor).all() for tensor in loop.context.optimizer.tensors.values())


def test_three_in_a_row_go_back_to_the_last_checkpoint(build):
    from iclora.training.checkpoint import checkpoints

    loop = build(Sick({3, 4, 5}), save_every=2, steps=5)
    weights = trained(loop)
    assert (loop.progress.step, loop.progress.skipped, loop.progress.rollbacks) == (5, 3, 1)
    # steps 1 and 2 were good, the checkpoint after step 2 (or 4, equal to it) came back
    import safetensors.torch

    kept = safetensors.torch.load_file(
        checkpoints(loop.folder / "checkpoints")[-2] / "raw.safetensors"
    )
    assert all(torch.equal(weights[name], kept[name]) for name in weights)


def test_two_in_a_row_do_not(build):
    loop = build(Sick({3, 4}))
    trained(loop)
    assert (loop.progress.skipped, loop.progress.rollbacks) == (2, 0)


def test_too_many_stop_the_run(build):
    faults = {"stop_after": 4}
    loop = build(Sick({1, 2, 4, 6}), nonfinite=faults)
    with pytest.raises(TrainingBroken, match="4 steps"):
        trained(loop)
    loop = build(Sick({1, 2, 4}), name="other", nonfinite=faults)
    trained(loop)


def test_out_of_memory_retries_with_the_next_plan(build):
    loop = build(Narrow())
    halved = trained(loop)
    assert loop.train_step.counts["retries"] == 1
    other = build(name="other", micro_batch=1)
    asked = trained(other)
    assert other.train_step.counts["retries"] == 0
    assert all(torch.equal(halved[name], asked[name]) for name in asked)
    assert loop.train_step.counts["tokens"] == other.train_step.counts["tokens"]


def test_out_of_memory_ends_with_the_ladder(build):
    class Full(Flux1):
        def predict(self, *arguments, **options):
            raise torch.OutOfMemoryError("nothing fits")

    loop = build(Full())
    with pytest.raises(torch.OutOfMemoryError):
        trained(loop)
    assert loop.context.memory.option(next(iter(loop.context.memory._options))).micro_batch == 1


@pytest.mark.parametrize("offload", [False, True])
def test_a_sheet_without_memory_costs_the_sheet_and_not_the_run(build, caplog, offload):
    class Large(Flux1):
        def decode(self, *arguments, **options):
            raise torch.OutOfMemoryError("3 GiB more")

    loop = build(Large(), sample_every=3, offload=offload)
    trained(loop)
    assert loop.progress.step == 6
    assert "no sheet of step 3, there is no memory for it: 3 GiB more" in caplog.text
    assert not list((loop.folder / "renders").glob("*"))


def test_a_fresh_adapter_changes_nothing_and_depends_on_the_seed(tiny_flux):
    family = Flux1()

    def fresh(seed):
        transformer = family.load_transformer(tiny_flux, dtype=torch.float32)
        return add_lora(transformer, family, rank=2, seed=seed)

    one, two = fresh(1), fresh(2)
    assert all(torch.equal(one[name], value) for name, value in fresh(1).items())
    a, b = (next(n for n in one if part in n) for part in (".lora_A.", ".lora_B."))
    assert not torch.equal(one[a], two[a])
    assert float(one[a].detach().abs().max()) <= one[a].shape[1] ** -0.5
    assert not one[b].detach().any()
