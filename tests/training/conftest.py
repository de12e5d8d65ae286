"""A tiny FLUX folder, datasets of painted canvases, and a bucket."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from moto.server import ThreadedMotoServer
from PIL import Image, ImageDraw

from iclora.dataset.shard_writer import Sample, write_shards
from iclora.presets import load_config
from iclora.store import Store
from iclora.train import train_adapter
from schemas.adapter import AdapterRef
from schemas.config import Config
from schemas.dataset import BuildConfig, DatasetManifest
from schemas.layout import Layout
from schemas.sample import CaptionRecord, PanelRecord, SampleRecord
from schemas.training import StepReport

sys.path.insert(0, str(Path(__file__).parent))  # for helper modules, which child processes import

LAYOUT = Layout(panel_width=32, panel_height=32)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory) -> Path:
    """A FluxPipeline folder of some hundred thousand parameters."""
    from iclora.miniature.flux_folder import build_flux, save_flux
    from iclora.miniature.sizes import TINY

    folder = tmp_path_factory.mktemp("tiny") / "flux"
    torch.manual_seed(0)
    save_flux(build_flux(TINY), folder)
    return folder


@pytest.fixture(scope="session")
def config(tiny_flux) -> Config:
    """Four quick steps on the tiny base, whatever the preset's recipe is."""
    return load_config(
        "miniature",
        {
            "base.model": str(tiny_flux),
            "layout.panel_width": 32,
            "layout.panel_height": 32,
            "data.resolutions": [64],
            "train.steps": 4,
            "train.batch": 2,
            "train.lora.rank": 2,
            "train.save_every": 2,
            "train.validate_every": 4,
            "train.validate_timesteps": [0.5],
            "train.conditional_probability": 0.0,
            "train.noise.sampler": "sigmoid",
            "train.optimizer.lr": 1e-3,
            "train.optimizer.lr_schedule": "constant",
        },
    )


def canvas(number: int, size: tuple[int, int]) -> bytes:
    """Coloured stripes that differ by number, as a PNG."""
    picture = Image.new("RGB", size, (number * 37 % 255, 90, 160))
    brush = ImageDraw.Draw(picture)
    for line in range(0, size[1], 8):
        brush.line([(0, line), (size[0], line + number)], fill=(line % 255, number * 11 % 255, 30))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def sample(
    number: int, *, split="train", heights=(32, 32, 32), width=32, masks=(), caption=None
) -> Sample:
    """A column of panels."""
    image = canvas(number, (width, sum(heights)))
    digest = hashlib.sha256(image).hexdigest()
    tops = [sum(heights[:i]) for i in range(len(heights))]
    panels = tuple(
        PanelRecord(
            marker=f"[SCENE-{i + 1}]",
            box=(0, top, width, top + height),
            caption="",
            source=f"s{number}",
            source_box=(0, 0, width, height),
            shot=-1,
            time=-1.0,
            sha256="",
        )
        for i, (top, height) in enumerate(zip(tops, heights, strict=True))
    )
    record = SampleRecord(
        key=f"set-{number:03d}",
        layout=f"{len(heights)}x1",
        width=width,
        height=sum(heights),
        panels=panels,
        masks=tuple(masks),
        image_sha256=digest,
        caption=CaptionRecord(
            prefix="", summary="", roles=(), captioner="hand", image_sha256=digest
        ),
        scores={},
        licence="unknown",
        split=split,
    )
    return Sample(record, caption or f"[SCENE-1] a red house number {number}", image, "png")


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    """Five train samples and one val sample."""
    return [*(sample(n) for n in range(5)), sample(9, split="val")]


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory, publish, samples, config
) -> tuple[Store, AdapterRef, list[StepReport]]:
    """A store with ``config``'s adapter of ``dataset``, its reference, and its progress reports."""
    store = Store(str(tmp_path_factory.mktemp("trained")))
    reports: list[StepReport] = []
    ref = train_adapter(store, publish(store, samples), config, "mine", progress=reports.append)
    return store, ref, reports


@pytest.fixture(scope="session")
def paint() -> Callable[..., Sample]:
    """``sample``."""
    return sample


@pytest.fixture(scope="session")
def publish() -> Callable[..., str]:
    """Writes samples as a dataset version; gives its name."""

    def write(store: Store, samples: list[Sample], *, name="demo", preview=False) -> str:
        config = load_config("miniature")
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
            preview=preview,
            config=BuildConfig.of(config.model_copy(update={"layout": LAYOUT})),
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
        return name

    return write


@pytest.fixture
def dataset(store, publish, samples) -> str:
    """``samples`` in the store."""
    return publish(store, samples)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A server that speaks S3."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    yield "http://{}:{}".format(*moto.get_host_and_port())
    moto.stop()


@pytest.fixture
def bucket(server, monkeypatch) -> Iterator[Any]:
    """An empty bucket there, which this process and its children reach."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": server,
    }.items():
        monkeypatch.setenv(name, value)
    made = boto3.resource("s3", endpoint_url=server).Bucket("bucket")
    made.create()
    yield made
    made.objects.delete()
    made.delete()


@pytest.fixture
def upload() -> Callable[[Store, Store], None]:
    """Copies the datasets of a local store to another."""

    def copy(store: Store, there: Store) -> None:
        for path in (Path(store.root) / "datasets").rglob("*"):
            if path.is_file():
                there.write(path.relative_to(store.root).as_posix(), path.read_bytes())

    return copy
