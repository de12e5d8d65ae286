"""The parts of a step that are quick without changing what it computes."""

from __future__ import annotations

import pytest
import torch

from iclora.training.dataloader import BatchLoader
from iclora.training.distributed import DistEnv
from iclora.training.optimizer import AdapterOptimizer
from iclora.training.run_inputs import fill_caches, open_job, read_training_data
from schemas.training import OptimizerParams


@pytest.mark.parametrize("size", [0.3, 0.9999999, 1.0, 1.0000001, 7.0, float("nan")])
def test_gradients_are_clipped_as_torch_clips_them(size):
    values = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    values *= size / values.norm()
    ours, theirs = ([torch.nn.Parameter(torch.zeros(50)) for _ in values] for _ in range(2))
    for tensors in (ours, theirs):
        for tensor, value in zip(tensors, values, strict=True):
            tensor.grad = value.clone()
    learner = AdapterOptimizer(dict(zip("abc", ours, strict=True)), OptimizerParams(), 1)
    norm = learner.gradient_norm()
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, 1.0)), nan_ok=True)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0, equal_nan=True)


def test_a_step_is_the_same_whenever_it_is_made(store, dataset, config):
    job = open_job(store, dataset, config, "mine")
    token_pixels = job.family.token_pixels(job.base.folder)
    material = read_training_data(job.dataset, config.data, config.train, token_pixels)
    fill_caches(job, material, torch.device("cpu"))

    def loader():
        return BatchLoader(
            material.train, job.cache, job.family, config.data, config.train, DistEnv()
        )

    ahead, plain, last = loader(), loader(), 3 * len(material.train)  # some epochs
    try:
        for step in range(last):
            ahead.prefetch(step + 1)  # while the thread makes it, this one is asked for
            for one, other in zip(ahead.batch(step), plain.batch(step), strict=True):
                assert torch.equal(one.latents, other.latents)
                assert torch.equal(one.noise, other.noise)
                assert torch.equal(one.text["embeds"], other.text["embeds"])
    finally:
        ahead.close()
        plain.close()
