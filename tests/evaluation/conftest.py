"""A store with a dataset of the film world, a tiny base and adapters that differ in known ways."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from PIL import Image

from iclora.dataset.shard_writer import Sample, write_shards
from iclora.evaluate import evaluate_adapter
from iclora.miniature.captions import set_caption, story_caption
from iclora.miniature.draw import render_panel
from iclora.miniature.script import NAMES
from iclora.miniature.world import Attributes, random_attributes, random_view
from iclora.presets import load_config
from iclora.store import Store
from schemas.adapter import RunRecord
from schemas.config import Config
from schemas.dataset import BuildConfig, DatasetManifest
from schemas.evaluation import EvaluateParams, ReportRef
from schemas.sample import CaptionRecord, PanelRecord, SampleRecord


class World(NamedTuple):
    """A store in which ``scenes`` is a dataset and ``film`` an adapter."""

    store: Store
    config: Config
    add_adapter: Callable[..., str]
    publish: Callable[..., None]
    """Publishes scenes by their seeds (``train``, ``val``), all val captions ``caption`` if one is
    given."""


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory) -> Path:
    """A FluxPipeline folder of some hundred thousand random parameters."""
    from iclora.miniature.flux_folder import build_flux, save_flux
    from iclora.miniature.sizes import TINY

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "flux"
    save_flux(build_flux(TINY), folder)
    return folder


@pytest.fixture(scope="session")
def config(tiny_flux, family) -> Config:
    """Two steps at 32 pixels a panel, judged by a CLIP with random weights."""
    return load_config(
        "miniature",
        {
            "base.model": str(tiny_flux),
            "layout.panel_width": 32,
            "layout.panel_height": 32,
            "sample.steps": 2,
            "sample.batch": 4,
            "evaluate.clip": str(family / "clip"),
            "evaluate.seeds": [1, 2],
            "evaluate.conditional_prompts": 2,
            "evaluate.bootstrap_resamples": 200,
        },
    )


def staged(rng: random.Random) -> list[Attributes]:
    """One character in one place, three times."""
    first = random_attributes(rng)
    shots = [random_attributes(rng) for _ in range(3)]
    return [first.model_copy(update={"shot": s.shot, "action": s.action}) for s in shots]


def story(seed: int) -> str:
    """The caption that the demo's build would write for a scene: looks and place are left open."""
    return story_caption(staged(random.Random(seed)), NAMES[seed % len(NAMES)])


def scene(seed: int, *, side: int = 32) -> tuple[list[Image.Image], str]:
    """Three panels of one scene, and a caption that tells everything."""
    rng = random.Random(seed)
    panels = staged(rng)
    pictures = [render_panel(panel, random_view(rng)).resize((side, side)) for panel in panels]
    return pictures, set_caption(panels, NAMES[seed % len(NAMES)])


def sample_of(
    seed: int, split: str, *, side: int = 32, text: str = "", repeat: bool = False
) -> Sample:
    """A scene as a sample; ``repeat`` puts its first panel in every place."""
    pictures, caption = scene(seed, side=side)
    pictures = pictures[:1] * 3 if repeat else pictures
    caption = text or caption
    canvas = Image.new("RGB", (side, 3 * side))
    for number, picture in enumerate(pictures):
        canvas.paste(picture, (0, number * side))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    panels = tuple(
        PanelRecord(
            marker=f"[SCENE-{number + 1}]",
            box=(0, number * side, side, (number + 1) * side),
            caption="",
            source="film",
            source_box=(0, 0, side, side),
            shot=-1,
            time=-1.0,
            sha256="",
        )
        for number in range(3)
    )
    record = SampleRecord(
        key=f"scene-{seed:03}",
        layout="3x1",
        width=side,
        height=3 * side,
        panels=panels,
        masks=(),
        image_sha256=digest,
        caption=CaptionRecord(
            prefix="[MOVIE-SHOTS]", summary="", roles=(), captioner="truth", image_sha256=digest
        ),
        scores={},
        licence="unknown",
        split=split,
    )
    return Sample(record, caption, buffer.getvalue(), "png")


def publish(store: Store, config: Config, samples: list[Sample], name: str = "scenes") -> None:
    """Writes samples as a dataset version."""
    samples = sorted(samples, key=lambda sample: sample.record.key)
    draft = Path(store.root) / "draft"
    draft.mkdir(parents=True, exist_ok=True)
    shards = tuple(
        entry
        for split in ("train", "val")
        for entry in write_shards(
            [s for s in samples if s.record.split == split], draft, split, config.shard
        )
    )
    version = hashlib.sha256("".join(s.sha256 for s in shards).encode()).hexdigest()[:16]
    manifest = DatasetManifest(
        name=name,
        version=version,
        config=BuildConfig.of(config),
        models={},
        samples=len(samples),
        splits={},
        scores=(),
        shards=shards,
        sources=(),
        ledger={},
        digests={},
    )
    with store.atomic_folder(f"datasets/{name}/{version}") as folder:
        for entry in shards:
            (draft / entry.file).rename(folder / entry.file)
        (folder / "manifest.json").write_text(manifest.to_text())
    store.write(f"datasets/{name}/LATEST", f"{version}\n".encode())


@pytest.fixture(scope="session")
def publish_scenes() -> Callable[..., None]:
    """Publishes scenes of the film world at its own size."""

    def publish_them(
        store: Store,
        config: Config,
        name: str,
        *,
        train: Sequence[int],
        val: Sequence[int],
        repeat: bool = False,
    ) -> None:
        samples = [
            sample_of(seed, split, side=64, text=story(seed), repeat=repeat and split == "train")
            for split, seeds in (("train", train), ("val", val))
            for seed in seeds
        ]
        publish(store, config, samples, name)

    return publish_them


def write_lora(file: Path, base: Path, *, seed: int, scale: float) -> None:
    """A LoRA of rank 2 on the attention, its B drawn at random: ``scale`` 0 changes nothing."""
    from diffusers import FluxTransformer2DModel
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    model = FluxTransformer2DModel.from_pretrained(base, subfolder="transformer")
    model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"]))
    generator = torch.Generator().manual_seed(seed)
    weights = {
        f"transformer.{name}": (torch.randn(value.shape, generator=generator) * scale).contiguous()
        for name, value in get_peft_model_state_dict(model).items()
    }
    save_file(weights, file)


def make_world(store: Store, config: Config, tiny_flux: Path) -> World:
    """The world in a store; what is in the store already stays."""

    def add(
        version: str,
        *,
        scale: float,
        conditional: float = 0.0,
        name: str = "film",
        evaluate: EvaluateParams = config.evaluate,
    ) -> str:
        folder = Path(store.root) / "adapters" / name / version
        folder.mkdir(parents=True)
        write_lora(folder / f"{name}.safetensors", tiny_flux, seed=1, scale=scale)
        train = config.train.model_copy(update={"conditional_probability": conditional})
        run = RunRecord(
            name=name,
            version=version,
            dataset="scenes",
            base="flux",
            config=config.model_copy(update={"train": train, "evaluate": evaluate}),
            steps=3,
            loss=0.2,
            seconds=1.0,
        )
        (folder / "run.json").write_text(run.to_text())
        lines = [f'{{"step": {step}, "loss": {1 / step}}}\n' for step in range(1, 4)]
        (folder / "metrics.jsonl").write_text("".join(lines))
        store.write(f"adapters/{name}/LATEST", f"{version}\n".encode())
        return f"{name}@{version}"

    def publish_some(
        name: str = "scenes",
        *,
        train: Sequence[int] = range(6),
        val: Sequence[int] = range(50, 58),
        caption: str = "",
    ) -> None:
        samples = [sample_of(seed, "train") for seed in train]
        for number, seed in enumerate(val):
            text = caption and caption + " x" * number
            samples.append(sample_of(seed, "val", text=text))
        publish(store, config, samples, name)

    return World(store, config, add, publish_some)


@pytest.fixture
def world(store, config, tiny_flux) -> World:
    """Six training scenes, eight unseen ones, and a way to add adapters."""
    made = make_world(store, config, tiny_flux)
    made.publish()
    return made


@pytest.fixture(scope="session")
def _first_evaluation(tmp_path_factory, config, tiny_flux) -> tuple[Path, ReportRef]:
    """An adapter that changes nothing, evaluated once for all tests."""
    store = Store(str(tmp_path_factory.mktemp("evaluated") / "store"))
    made = make_world(store, config, tiny_flux)
    made.publish()
    made.add_adapter("v1", scale=0.0, conditional=0.5)
    return Path(store.root), evaluate_adapter(store, "film", promote=True)


@pytest.fixture
def evaluated(_first_evaluation, tmp_path, config, tiny_flux) -> tuple[World, ReportRef]:
    """A copy of it to play with."""
    root, ref = _first_evaluation
    copy = Store(str(shutil.copytree(root, tmp_path / "copy")))
    moved = ref.model_copy(update={"url": ref.url.replace(str(root), copy.root)})
    return make_world(copy, config, tiny_flux), moved


@pytest.fixture(scope="session")
def _first_promotion(tmp_path_factory, config, tiny_flux) -> tuple[Path, ReportRef]:
    """An adapter that is more consistent than the base, by margins so wide that this decides."""
    wide = dict.fromkeys(
        ("consistency", "adherence", "variety", "spread", "structure", "identity"), 2.0
    )
    changes = {"max_memorized": 1.0, "confidence": 0.51, "conditional_prompts": 0}
    margins = config.evaluate.margins.model_copy(update=wide)
    easy = config.evaluate.model_copy(update={**changes, "margins": margins})
    store = Store(str(tmp_path_factory.mktemp("better") / "store"))
    made = make_world(store, config.model_copy(update={"evaluate": easy}), tiny_flux)
    made.publish()
    made.add_adapter("v1", scale=0.0)
    made.add_adapter("v2", scale=2.0)
    return Path(store.root), evaluate_adapter(store, "film@v2")


@pytest.fixture
def found_better(_first_promotion, tmp_path, config, tiny_flux) -> tuple[World, ReportRef]:
    """A copy of it: ``film@v2`` was found better than the base and is not promoted yet."""
    root, ref = _first_promotion
    copy = Store(str(shutil.copytree(root, tmp_path / "better")))
    run = RunRecord.from_text(copy.read("adapters/film/v2/run.json"))
    moved = ref.model_copy(update={"url": ref.url.replace(str(root), copy.root)})
    return make_world(copy, run.config, tiny_flux), moved
