"""Every recipe runs, goes on where it was stopped, and writes a model that loads."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch

from iclora.errors import MissingModel
from iclora.miniature.clip_folder import build_clip
from iclora.miniature.film import encode_film, film_truth
from iclora.miniature.reader import WorldReader, as_input, load_reader, panel_of
from iclora.miniature.script import film_script
from iclora.miniature.sizes import TINY
from iclora.miniature.vlm_folder import build_vlm, look_through
from iclora.miniature.world import VALUES, random_attributes, seeded
from recipes.clip import scene_kernel, train_clip
from recipes.clip_eval import area_under_curve, measure_clip
from recipes.heldout import FIRST_SEED, held_out_frames
from recipes.pool import attributes_of, scene_pool
from recipes.reader import measure_reader, train_reader
from recipes.vlm import measure_vlm, train_vlm


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return scene_pool(tmp_path_factory.mktemp("pool"), scenes=6, shots=2)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    film = film_script(FIRST_SEED)
    scenes = [[s for s in film.shots if s.scene == n and s.kind == "scene"][:2] for n in (0, 1)]
    shots = [shot.model_copy(update={"frames": 4}) for shots in scenes for shot in shots]
    shots = [shot.model_copy(update={"start": 4 * n}) for n, shot in enumerate(shots)]
    copy = shots[0].model_copy(update={"kind": "duplicate", "copy_of": 0, "start": 16})
    short = film.model_copy(update={"shots": (*shots, copy)})
    encode_film(short, folder / f"film-{FIRST_SEED}.mp4")
    return held_out_frames(folder, 1)


def test_a_pool_is_drawn_once_and_labelled_right(pool, tmp_path) -> None:
    first = scene_pool(tmp_path, scenes=2, shots=2)
    again = scene_pool(tmp_path, scenes=2, shots=2)
    assert (first.pixels == again.pixels).all()
    assert (first.pixels == pool.pixels[:2]).all()
    one, other = (attributes_of(row) for row in pool.labels[0])
    assert one.same_scene(other)
    assert tuple(pool.labels[0, 0]) == one.indices()


def test_held_out_frames_are_what_the_truth_says(frames) -> None:
    assert [frame.shot for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.scene for frame in frames] == [0, 0, 1, 1, 0]
    assert frames[4].copy_of == 0
    truth = film_truth(film_script(FIRST_SEED))
    for frame in frames:
        x0, y0, x1, y1 = truth.picture
        assert frame.picture.size == (x1 - x0, y1 - y0)
    pixels = [np.asarray(panel_of(frame.picture), dtype=int) for frame in frames]
    assert np.abs(pixels[4] - pixels[0]).mean() < np.abs(pixels[1] - pixels[0]).mean()


def test_a_recipe_that_was_stopped_ends_the_same(pool, tmp_path, monkeypatch) -> None:
    straight = train_reader(tmp_path / "straight", 3, pool).state_dict()
    saves = []

    def stop_after(step: int):
        from recipes import loop

        real = loop._save

        def save(path, model, optimizer, steps) -> None:
            real(path, model, optimizer, steps)
            saves.append(steps)
            if steps == step:
                raise KeyboardInterrupt

        return save

    with monkeypatch.context() as patch:
        patch.setattr("recipes.loop._save", stop_after(2))
        patch.setattr("recipes.loop.SAVE_EVERY", 1)
        with pytest.raises(KeyboardInterrupt):
            train_reader(tmp_path / "stopped", 3, pool)
    resumed = train_reader(tmp_path / "stopped", 3, pool).state_dict()
    assert saves == [1, 2]
    assert all(torch.equal(resumed[name], value) for name, value in straight.items())


def test_the_reader_reads_whatever_its_company(pool, frames, tmp_path) -> None:
    train_reader(tmp_path, 2, pool)
    reader = WorldReader(tmp_path / "model")
    pictures = [frame.picture for frame in frames]
    assert reader.read(pictures)[0] == reader.read(pictures[:1])[0]
    assert set(reader.read(pictures)[0]) == set(VALUES)
    assert set(measure_reader(reader, frames)) == set(VALUES)
    with pytest.raises(MissingModel, match=r"recipes\.reader"):
        load_reader(tmp_path / "nowhere")


def test_the_clip_recipe_writes_a_folder_that_open_clip_loads(pool, frames, tmp_path) -> None:
    model = train_clip(tmp_path, 2, TINY, pool)
    loaded = open_clip.create_model(f"local-dir:{tmp_path / 'model'}")
    pixels = as_input(pool.pixels[0])
    torch.testing.assert_close(
        loaded.encode_image(pixels), model.eval().encode_image(pixels), atol=0.05, rtol=0.05
    )
    scores = measure_clip(tmp_path / "model", frames, among=2)
    assert 0 <= scores.scene_auc <= 1


def test_the_kernel_can_be_had_and_orders_pairs_as_the_sift_needs() -> None:
    rng = seeded("kernel", 0)
    labels = torch.tensor([random_attributes(rng).indices() for _ in range(200)])
    kernel = scene_kernel(labels)
    assert torch.linalg.eigvalsh(kernel).min() > -1e-4
    torch.testing.assert_close(kernel.diagonal(), torch.ones(200))
    first = random_attributes(rng)
    seen = [
        first.model_copy(update={"shot": "wide", "action": "wave", "place": "beach"}),
        first.model_copy(update={"shot": "close", "action": "read", "place": "beach"}),
        first.model_copy(update={"shot": "wide", "action": "wave", "place": "city"}),
    ]
    copy, scene, other = scene_kernel(torch.tensor([one.indices() for one in seen]))[0].tolist()
    assert copy > scene > other


def test_area_under_the_curve() -> None:
    assert area_under_curve(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert area_under_curve(np.array([1.0]), np.array([1.0])) == 0.5
    assert area_under_curve(np.array([0.0, 2.0]), np.array([1.0])) == 0.5


def test_the_vlm_looks_through_the_eyes_of_clip(pool) -> None:
    torch.manual_seed(1)
    clip, vlm = build_clip(TINY).eval(), build_vlm(TINY).eval()
    look_through(vlm, clip.visual)
    pixels = as_input(pool.pixels[0])
    seen = vlm.model.vision_tower(pixels).last_hidden_state[:, 1:]
    pooled = clip.visual.ln_post(seen).mean(dim=1) @ clip.visual.proj
    torch.testing.assert_close(pooled, clip.encode_image(pixels), atol=1e-4, rtol=1e-4)


def test_the_vlm_recipe_writes_a_folder_that_transformers_loads(pool, frames, tmp_path) -> None:
    train_vlm(tmp_path, 2, TINY, pool, build_clip(TINY))
    scores = measure_vlm(tmp_path / "model", frames[:2])
    assert set(scores) == {*VALUES, "invented role"}
