"""The committed weights do what their cards say, on films that no recipe has seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

import iclora.miniature
from iclora.miniature.film import film_frame
from iclora.miniature.reader import WorldReader, load_reader
from iclora.miniature.script import HEIGHT, WIDTH, film_script
from recipes.clip_eval import measure_clip
from recipes.flux_eval import draw_mosaics, draw_singles, obedience
from recipes.flux_pool import open_pool
from recipes.heldout import FIRST_SEED, HeldOut
from recipes.reader import measure_reader
from recipes.vae import measure_autoencoder
from recipes.vlm import measure_vlm

FOLDER = Path(iclora.miniature.__file__).parent / "weights"
MEGABYTES = 40


@pytest.fixture(scope="module")
def frames() -> list[HeldOut]:
    """Drawn, not decoded: the files' own frames are what the cards are measured on."""
    drawn = []
    for seed in range(FIRST_SEED + 50, FIRST_SEED + 55):
        film = film_script(seed)
        for number, shot in enumerate(film.shots):
            if shot.kind == "scene" and shot.attributes:
                picture = film_frame(film, shot, shot.frames // 2)
                picture = picture.crop((0, film.bar, WIDTH, HEIGHT - film.bar))
                drawn.append(HeldOut(picture, shot.attributes, seed, shot.scene, number, -1))
    return drawn


def test_clip_tells_scenes_apart_and_finds_captions(frames) -> None:
    copies = [frame._replace(copy_of=frame.shot, shot=-9) for frame in frames[:5]]
    scores = measure_clip(FOLDER / "clip", [*frames, *copies])
    assert scores.scene_auc >= 0.97
    assert scores.retrieval >= 0.9
    assert scores.copies[0] > 0.97 > scores.same_scene[2]
    assert scores.same_scene[0] > scores.neighbours[1]


def test_the_reader_reads_every_attribute(frames) -> None:
    scores = measure_reader(WorldReader(FOLDER / "reader"), frames)
    assert min(scores.values()) >= 0.97, scores


def test_the_vlm_tells_every_attribute_and_invents_no_role(frames) -> None:
    scores = measure_vlm(FOLDER / "vlm", frames[:64])
    assert scores.pop("invented role") == 0
    assert min(scores.values()) >= 0.95, scores


@pytest.fixture(scope="module")
def flux() -> FluxPipeline:
    """Loaded by diffusers alone."""
    pipeline = FluxPipeline.from_pretrained(FOLDER / "flux")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_flux_draws_what_singles_and_clauses_name(flux) -> None:
    reader = load_reader()
    singles = draw_singles(flux, 16, steps=16, true_cfg=1.5)
    assert min(share.value for share in obedience(singles, reader).values()) >= 0.85
    mosaics = draw_mosaics(flux, 8, steps=16, true_cfg=1.5)
    assert min(share.value for share in obedience(mosaics, reader).values()) >= 0.75


def test_flux_sees_panels_as_they_are(flux, tmp_path) -> None:
    unseen = open_pool(tmp_path, 100, measuring=True)
    assert measure_autoencoder(flux.vae, unseen.pictures) >= 30


def test_every_model_has_its_card_and_all_fit_the_package() -> None:
    folders = [path for path in FOLDER.iterdir() if path.is_dir()]
    assert {folder.name for folder in folders} == {"clip", "flux", "reader", "vlm"}
    for folder in folders:
        assert "license: apache-2.0" in (folder / "README.md").read_text(encoding="utf-8")
    size = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    assert size <= MEGABYTES * 2**20
