"""The loss, what is drawn for it, and which tokens count."""

from __future__ import annotations

import math

import pytest
import torch

from iclora.models.families import GivenTokens, Grid, Posterior
from iclora.training.loss import MicroBatch, add_noise, compute_losses, panel_losses, token_weights
from iclora.training.noise import (
    draw_noise,
    draw_timestep,
    flux_shift,
    shifted,
    weight_of,
)
from iclora.training.sampler import BatchSlot
from schemas.training import NoiseParams, TrainParams

GRID = Grid(3, 2)
PANELS = torch.tensor([0, 0, 1, 1, 2, 2])
POSTERIOR = Posterior(torch.zeros(6, 4), torch.ones(6, 4))


class Answers:
    """A family that answers with a velocity of its own choice and remembers what it was asked."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, transformer, tokens, t, text, *, grid, guidance, given=None):
        self.asked = (tokens, t, guidance, given)
        return self.answer


def batch(**changes):
    noise = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    values = {
        "latents": torch.ones(2, 6, 4),
        "noise": noise,
        "t": torch.tensor([0.25, 0.75]),
        "text": {},
        "grid": GRID,
        "panel_of": PANELS.expand(2, 6),
        "weight": torch.ones(2, 6),
        "given": None,
        "timestep_weight": torch.ones(2),
    }
    return MicroBatch(**(values | changes))


def test_the_model_sees_the_straight_line_and_is_asked_for_its_slope():
    full = batch()
    perfect = Answers(full.noise - full.latents)
    losses = compute_losses(perfect, None, full, guidance=1.0)
    assert losses.samples.tolist() == [0.0, 0.0]
    tokens, t, guidance, _ = perfect.asked
    torch.testing.assert_close(tokens[1], 0.25 * full.latents[1] + 0.75 * full.noise[1])
    assert (t.tolist(), guidance) == ([0.25, 0.75], 1.0)
    assert torch.equal(add_noise(full.latents, full.noise, torch.zeros(2)), full.latents)
    assert torch.equal(add_noise(full.latents, full.noise, torch.ones(2)), full.noise)


def test_the_error_is_taken_in_float32():
    full = batch()
    close = Answers((full.noise - full.latents + 1e-3).bfloat16())
    losses = compute_losses(close, None, full, guidance=1.0)
    assert losses.samples.dtype == torch.float32


def test_masked_tokens_do_not_count_and_do_not_dilute():
    full = batch()
    wrong = (full.noise - full.latents).clone()
    wrong[:, 0] += 2.0
    assert compute_losses(Answers(wrong), None, full, guidance=1.0).samples[0] == pytest.approx(
        4 / 6
    )
    learn = torch.tensor([True, False, False, False, False, False])
    only = batch(weight=token_weights(PANELS, learn, (), ()).expand(2, 6))
    assert compute_losses(Answers(wrong), None, only, guidance=1.0).samples[0] == pytest.approx(4.0)
    none = batch(weight=torch.zeros(2, 6))
    assert compute_losses(Answers(wrong), None, none, guidance=1.0).samples.tolist() == [0.0, 0.0]


def test_given_panels_and_panel_weights():
    every = torch.ones(6, dtype=torch.bool)
    assert token_weights(PANELS, every, (1,), ()).tolist() == [1, 1, 0, 0, 1, 1]
    assert token_weights(PANELS, every, (), (1.0, 2.0, 0.5)).tolist() == [1, 1, 2, 2, 0.5, 0.5]


def test_losses_are_told_apart_by_panel():
    full = batch(weight=token_weights(PANELS, torch.ones(6).bool(), (0,), ()).expand(2, 6))
    errors = torch.tensor([[9.0, 9.0, 1.0, 3.0, 5.0, 5.0]]).expand(2, 6)
    sums, counts = panel_losses(full, errors, 3)
    assert sums.tolist() == [0.0, 8.0, 20.0]
    assert counts.tolist() == [0.0, 4.0, 4.0]


def test_timestep_weights_scale_the_loss():
    full = batch(timestep_weight=torch.tensor([0.0, 2.0]))
    off = Answers(full.noise - full.latents + 1.0)
    assert compute_losses(off, None, full, guidance=1.0).samples.tolist() == pytest.approx([0, 2.0])


def draws(params, count=4000, tokens=256):
    generator = torch.Generator().manual_seed(0)
    return torch.tensor([draw_timestep(params, tokens, generator) for _ in range(count)])


def test_sigmoid_is_the_logit_normal():
    logits = torch.logit(draws(NoiseParams()))
    assert logits.mean() == pytest.approx(0.0, abs=0.06)
    assert logits.std() == pytest.approx(1.0, abs=0.04)


def test_uniform_and_shift():
    uniform = draws(NoiseParams(sampler="uniform"))
    assert uniform.mean() == pytest.approx(0.5, abs=0.02)
    far = draws(NoiseParams(sampler="shift"), tokens=4096)
    assert far.mean() > draws(NoiseParams(sampler="shift"), tokens=256).mean() > 0.55
    given = draws(NoiseParams(sampler="shift", shift=6.0), tokens=256)
    assert given.median() == pytest.approx(6 / 7, abs=0.01)
    assert shifted(0.0, flux_shift(999)) == 0.0
    assert shifted(1.0, flux_shift(999)) == pytest.approx(1.0)


def test_shift_is_the_schedulers(tiny_flux):
    from iclora.models.families.flux1 import FAMILY

    sigmas = FAMILY.sigmas(tiny_flux, 4, 1000)
    factor = flux_shift(1000)
    assert [shifted(t, factor) for t in (1.0, 0.75, 0.5, 0.25)] == pytest.approx(sigmas[:4])


def test_bell_has_mean_one_and_no_negative():
    bell = NoiseParams(weighting="bell")
    weights = [weight_of(bell, i / 1000) for i in range(1000)]
    assert sum(weights) / 1000 == pytest.approx(1.0)
    assert min(weights) == 0.0
    assert max(weights) == weights[500]
    # AI-Toolkit's own arithmetic, by index
    curve = [math.exp(-2 * ((i - 500) / 1000) ** 2) for i in range(1000)]
    lowered = [value - min(curve) for value in curve]
    theirs = [value * 1000 / sum(lowered) for value in lowered]
    assert weights == pytest.approx(theirs, abs=1e-9)
    assert weight_of(NoiseParams(), 0.3) == 1.0


def chance(step=0, key="a", turn=0, seed=1, dropout=0.0, conditional=0.0, posterior=POSTERIOR):
    train = TrainParams(seed=seed, conditional_probability=conditional)
    return draw_noise(BatchSlot(key, turn), step, posterior, 3, train, caption_dropout=dropout)


def test_draws_are_pure_functions_of_seed_step_key_and_turn():
    first = chance()
    assert torch.equal(first.noise, chance().noise)
    assert torch.equal(first.latent, chance().latent)
    others = [chance(step=1), chance(key="b"), chance(turn=1), chance(seed=2)]
    assert all(not torch.equal(first.noise, other.noise) for other in others)
    assert len({first.t, *(other.t for other in others)}) == 5


def test_latents_are_redrawn_from_the_posterior():
    values = torch.cat([chance(step=step).latent.flatten() for step in range(200)])
    assert values.std() == pytest.approx(1.0, abs=0.05)
    still = chance(posterior=Posterior(torch.ones(6, 4), torch.zeros(6, 4)))
    assert torch.equal(still.latent, torch.ones(6, 4))


def test_captions_drop_and_panels_are_given_as_often_as_asked():
    many = [chance(step=step, dropout=0.25, conditional=0.5) for step in range(2000)]
    assert sum(c.drop_caption for c in many) / 2000 == pytest.approx(0.25, abs=0.03)
    given = [c.given for c in many if c.given]
    assert len(given) / 2000 == pytest.approx(0.5, abs=0.04)
    assert {len(panels) for panels in given} == {1, 2}  # never none, never all
    assert {panel for panels in given for panel in panels} == {0, 1, 2}
    # without conditional training the same noise is drawn
    assert torch.equal(many[7].noise, chance(step=7).noise)


def test_given_is_what_the_family_gets():
    given = GivenTokens(torch.zeros(2, 6, 4), torch.zeros(2, 6, dtype=torch.bool))
    asked = Answers(torch.zeros(2, 6, 4))
    compute_losses(asked, None, batch(given=given), guidance=1.0)
    assert asked.asked[3] is given
