"""The recipe of the miniature FLUX: what it reads, how it resumes, what it writes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

from iclora.miniature.captions import NOBODY, attributes_in
from iclora.miniature.draw import render_panel
from iclora.miniature.flux_folder import save_flux
from iclora.miniature.reader import load_reader
from iclora.miniature.tokenizer import END
from iclora.miniature.world import VALUES, random_attributes, random_view, seeded
from recipes.flux import RectifiedFlowModel, hang, train_base
from recipes.flux_eval import Drawn, draw, obedience, panels_of
from recipes.flux_muon import orthogonalised
from recipes.flux_parts import assemble, pack
from recipes.flux_pool import PicturePool, attributes_at, held_out, open_pool
from recipes.flux_text import TextEncoders, draw_lesson
from recipes.flux_words import (
    CONTEXT,
    mosaic_lesson,
    phrase_tokenizer,
    set_lesson,
    single_lesson,
    token_ids,
)
from recipes.loop import Plateau
from recipes.vae import build_autoencoder, decoded, latents_of, unit_variance

PICTURES = 24


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> PicturePool:
    return open_pool(tmp_path_factory.mktemp("pool"), PICTURES)


def test_a_pool_keeps_the_held_out_combinations_away(tmp_path: Path, pool: PicturePool) -> None:
    assert not any(held_out(attributes_at(row)) for row in pool.attributes)
    measured = open_pool(tmp_path, 4, measuring=True)
    assert all(held_out(attributes_at(row)) for row in measured.attributes)


def test_an_interrupted_pool_is_finished_with_the_same_pictures(
    tmp_path: Path, pool: PicturePool
) -> None:
    open_pool(tmp_path, PICTURES)
    (tmp_path / "drawn").write_text("0")
    np.testing.assert_array_equal(open_pool(tmp_path, PICTURES).pictures, pool.pictures)


def test_telling_cells_lie_on_the_character_and_not_in_the_sky(pool: PicturePool) -> None:
    mean = pool.telling.astype(float).mean(axis=0)
    assert mean[3:6, 2:6].mean() > 4 * mean[0, [0, 7]].mean()


@pytest.mark.parametrize("framing", ["both", "end"])
def test_every_lesson_fits_and_can_be_read_back(framing: Any) -> None:
    tokenizer = phrase_tokenizer(framing)
    for seed in range(200):
        caption = draw_lesson(random.Random(seed)).caption
        ids: list[int] = tokenizer(caption).input_ids
        assert len(ids) <= int(tokenizer.model_max_length)
        text = str(tokenizer.decode(ids, skip_special_tokens=True))
        assert attributes_in(text) == attributes_in(caption)


def test_a_phrase_is_one_token_and_other_text_falls_into_bytes() -> None:
    tokenizer = phrase_tokenizer("end")
    assert len(tokenizer("a red shirt").input_ids) == len(["a red shirt", END])
    assert tokenizer.decode(tokenizer("Zoë paints").input_ids[:-1]) == "Zoë paints"
    assert max(token_ids().values()) == token_ids()[END] == len(tokenizer) - 1


def test_a_single_tells_what_its_caption_names() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        lesson = single_lesson(random_attributes(rng), rng)
        named = attributes_in(lesson.caption)
        for (name, values), place in zip(VALUES.items(), lesson.told[0], strict=True):
            assert named.get(name) == (None if place < 0 else values[place])


def test_a_set_tells_the_summary_of_every_panel_and_a_mosaic_does_not() -> None:
    rng = random.Random(3)
    panels = [random_attributes(rng) for _ in range(3)]
    same = [panel.model_copy(update={"hair": "pink"}) for panel in panels]
    hair = list(VALUES).index("hair")
    lesson = set_lesson(same, frozenset({"hair"}), rng)
    assert {told[hair] for told in lesson.told} == {VALUES["hair"].index("pink")}
    told = [mosaic_lesson(panels, random.Random(seed)).told for seed in range(20)]
    assert any(one[hair] != two[hair] for one, two, _ in told)


def test_muon_makes_all_singular_values_alike() -> None:
    torch.manual_seed(0)
    for shape in ((64, 16), (16, 64), (32, 32)):
        before = torch.linalg.svdvals(torch.randn(shape))
        after = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert before.max() / before.min() > 2 or shape[0] != shape[1]
        assert after.max() < 1.3
        assert after.median() > 0.6


def test_latents_get_unit_variance_and_pictures_stay(pool: PicturePool) -> None:
    torch.manual_seed(0)
    vae = build_autoencoder().eval()
    before = decoded(vae, latents_of(vae, pool.pictures))
    unit_variance(vae, pool.pictures)
    latents = latents_of(vae, pool.pictures)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 1e-3
    middle = (..., slice(28, 36), slice(28, 36))
    after = decoded(vae, latents)
    assert (after - before)[middle].abs().max() < (after - before).abs().max() + 1e-6


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path: Path, pool: PicturePool) -> None:
    torch.manual_seed(0)
    vae, encoders = build_autoencoder().eval(), TextEncoders().eval()
    gallery = hang(pool, vae, tmp_path)
    plan: dict[str, Any] = {"peak": 1e-3, "fall": 0.0}
    whole = train_base(tmp_path / "whole", Plateau(steps=2, **plan), gallery, encoders)
    train_base(tmp_path / "cut", Plateau(steps=1, **plan), gallery, encoders)
    cut = train_base(tmp_path / "cut", Plateau(steps=2, **plan), gallery, encoders)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, cut.state_dict()[name]), name


def test_the_folder_is_a_flux_pipeline(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pipeline = assemble(build_autoencoder(), TextEncoders(), RectifiedFlowModel().average)
    save_flux(pipeline, tmp_path)
    loaded: Any = FluxPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.vae_scale_factor == 8
    pictures = draw(loaded, ["a wide shot of someone", NOBODY], 3, steps=2, true_cfg=2.5)
    assert [picture.size for picture in pictures] == [(64, 192)] * 2
    assert [panel.size for panel in panels_of(pictures[0])] == [(64, 64)] * 3
    total = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    assert total < 18 * 2**20


def test_tokens_are_packed_as_the_pipeline_packs_them() -> None:
    latents = torch.randn(2, 32, 24, 8)
    theirs: Any = FluxPipeline
    assert torch.equal(pack(latents), theirs._pack_latents(latents, 2, 32, 24, 8))


def test_obedience_is_high_for_the_right_pictures_and_low_for_others() -> None:
    rng = seeded("obedience", 0)
    wanted = [(random_attributes(rng),) for _ in range(40)]
    pictures = [render_panel(panel, random_view(rng)) for (panel,) in wanted]
    right = obedience(Drawn([""] * 40, wanted, pictures), load_reader())["all"]
    wrong = obedience(Drawn([""] * 40, wanted, pictures[::-1]), load_reader())["all"]
    assert right.low > 0.9
    assert wrong.high < 0.45
    assert right.low < right.value < right.high or right.value == 1
    assert phrase_tokenizer("end").model_max_length == CONTEXT
