"""CLIP's vectors: unit length, the same in any company and on any thread; and its names."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iclora.errors import BadConfig, MissingModel
from iclora.miniature.draw import render_frame
from iclora.miniature.world import Attributes, View
from iclora.models.clip import BATCH, ClipEncoder, clip_label, load_clip
from iclora.models.view import VIEW
from iclora.presets import load_config


@pytest.fixture(scope="module")
def clip(family: Path) -> ClipEncoder:
    return load_clip(str(family / "clip"))


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (48, 80, 3)).astype(np.uint8)) for _ in range(count)
    ]


def panel(size: tuple[int, int]) -> Image.Image:
    """Smooth noise: every region looks different from every other."""
    rng = np.random.default_rng(sum(size))
    coarse = Image.fromarray(rng.integers(0, 256, (6, 12, 3)).astype(np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def painted(picture: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    changed = picture.copy()
    changed.paste((255, 0, 255), box)
    return changed


def test_pictures_and_texts_become_unit_vectors_of_one_space(clip):
    images, texts = clip.images(pictures(3)), clip.texts(["a dog", "a cat"])
    assert images.dtype == texts.dtype == np.float32
    assert images.shape == (3, texts.shape[1])
    assert np.allclose(np.linalg.norm(images, axis=1), 1, atol=1e-6)
    assert np.allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-6)
    assert not np.allclose(texts[0], texts[1])


def test_nothing_gives_no_rows_of_the_right_width(clip):
    assert clip.images([]).shape == (0, clip.texts(["x"]).shape[1])


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_a_pictures_vector_does_not_depend_on_its_company(clip, count):
    images = pictures(count)
    together = clip.images(images)
    assert np.array_equal(together, clip.images(images))
    assert np.array_equal(clip.images(images[-1:])[0], together[-1])


@pytest.mark.parametrize(
    ("size", "edge"),
    [
        ((1024, 512), (0, 0, 256, 512)),
        ((1024, 512), (768, 0, 1024, 512)),
        ((1920, 804), (0, 0, 240, 804)),
        ((400, 600), (0, 0, 400, 90)),
        ((400, 600), (0, 510, 400, 600)),
    ],
)
def test_a_change_at_the_edge_is_seen(clip, size, edge):
    picture = panel(size)
    one, other = clip.images([picture, painted(picture, edge)])
    assert float(one @ other) < 0.999


def test_panels_that_differ_outside_the_middle_are_no_near_duplicates():
    beach, snow = (
        render_frame(
            Attributes(
                hair="blond",
                hat="none",
                shirt="red",
                place=place,
                light=light,
                shot="medium",
                action="wave",
            ),
            View(),
            width=384,
            height=192,
        )
        for place, light in (("beach", "day"), ("snow", "night"))
    )
    snow.paste(beach.crop((96, 0, 288, 192)), (96, 0))
    one, other = load_clip("miniature/clip").images([beach, snow])
    ceiling = load_config("miniature").filter.sets.similarity.near_duplicate
    assert float(one @ other) < ceiling


def test_no_bars_are_put_beside_a_wide_picture(clip):
    wide, square = (Image.new("RGB", size, (200, 40, 90)) for size in ((320, 80), (80, 80)))
    assert np.array_equal(*clip.images([wide, square]))


def test_a_square_picture_is_seen_as_the_model_saw_it_in_training(clip, family):
    import open_clip
    import torch

    _, _, published = open_clip.create_model_and_transforms(f"local-dir:{family / 'clip'}")
    picture = panel((96, 96))
    assert torch.equal(clip._preprocess(picture), published(picture))


def test_a_pictures_vector_does_not_depend_on_the_shapes_beside_it(clip):
    shapes = [panel(size) for size in ((64, 64), (200, 100), (90, 180), (640, 272))]
    together = clip.images(shapes)
    for number, shape in enumerate(shapes):
        assert np.array_equal(clip.images([shape])[0], together[number])


def test_threads_do_not_change_the_numbers(clip):
    images = pictures(2 * BATCH)
    alone = clip.images(images)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: clip.images(images), range(4)):
            assert np.array_equal(rows, alone)


def test_any_mode_of_picture_is_read(clip):
    image = pictures(1)[0]
    grey = image.convert("L")
    rows = clip.images([grey, grey.convert("RGB"), image.convert("RGBA")])
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[2], clip.images([image])[0])


def test_a_long_text_is_cut_and_not_refused(clip):
    assert clip.texts(["word " * 500]).shape[0] == 1


def test_a_model_is_loaded_once(clip, family):
    assert load_clip(str(family / "clip")) is clip
    assert not any(weight.requires_grad for weight in clip._model.parameters())
    assert not clip._model.training


def test_the_label_names_model_revision_and_view_without_a_path(clip, family):
    label = clip_label(str(family / "clip"))
    assert label == f"clip@{clip.revision}"
    assert label.endswith(f"+{VIEW}")


def test_a_folder_without_safetensors_is_refused(family, tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(family / "clip", folder)
    (folder / "open_clip_model.safetensors").rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(BadConfig, match="no safetensors file"):
        load_clip(str(folder))


def test_a_folder_that_is_not_open_clips_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BadConfig, match=r"no open_clip_config\.json"):
        load_clip(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ViT-B-32:no-such-tag", "ViT-B-32 comes as .*laion2b_s34b_b79k"),
        ("No-Such-Model:openai", "it does not know No-Such-Model"),
    ],
)
def test_an_unknown_tag_names_the_known_ones(name, sentence):
    with pytest.raises(BadConfig, match=sentence):
        clip_label(name)


def test_a_known_tag_that_is_not_here_says_how_to_get_it(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingModel, match="hf download laion/CLIP-ViT-B-32-laion2B-s34B-b79K"):
        load_clip("ViT-B-32:laion2b_s34b_b79k")
