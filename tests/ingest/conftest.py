"""Small real films and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from iclora.ingest import ingest_source, resolve_sources
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from iclora.store import Store
from schemas.stage import Ingested

WriteFilm = Callable[..., Path]


def texture(seed: int, width: int = 160, height: int = 96) -> np.ndarray:
    """A picture with large and small shapes, different for every seed; RGB."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(25):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        cv2.circle(picture, (x, y), int(rng.integers(2, height // 6)), colour, -1)
    return np.asarray(picture, np.uint8)


def shots(count: int, frames: int = 20, width: int = 160, height: int = 96) -> list[np.ndarray]:
    """Pictures of a film of still shots."""
    return [texture(shot, width, height) for shot in range(count) for _ in range(frames)]


@pytest.fixture
def write_film(tmp_path: Path) -> WriteFilm:
    """Encodes RGB pictures; ``stamps`` are time stamps in ticks of 1/1000 s."""

    def write(
        pictures: Sequence[np.ndarray],
        name: str = "film.mp4",
        *,
        rate: int = 24,
        stamps: Sequence[int] = (),
        rotation: int = 0,
        aspect: Fraction | None = None,
        options: dict[str, str] | None = None,
        codec: str = "libx264",
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream(codec, rate=rate, options={"crf": "12"})
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            base = Fraction(1, 1000) if stamps else Fraction(1, rate)
            stream.codec_context.time_base = base
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            if rotation:
                stream.set_display_rotation(rotation)
            for number, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = stamps[number] if stamps else number
                frame.time_base = base
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def ingest(store: Store) -> Callable[..., Ingested]:
    """Resolves one location that holds one source, and ingests it."""

    def run(location: Path | str, *overrides: str, preset: str = "movie-shots") -> Ingested:
        config = load_config(preset, overrides)
        sources, _ = resolve_sources([str(location)], config.ingest, store.work_folder)
        assert len(sources) == 1, sources
        return result_of(store, ingest_source(store, sources[0], config), Ingested)

    return run


@pytest.fixture
def frames_folder(store: Store) -> Callable[[Ingested], Path]:
    """The folder of the only ingest stage in the store."""

    def find(_: Ingested) -> Path:
        stages = [path.parent for path in Path(store.root).glob("stages/ingest/*/manifest.json")]
        assert len(stages) == 1
        return stages[0]

    return find


@pytest.fixture(name="texture")
def texture_fixture() -> Callable[..., np.ndarray]:
    """A picture of a seed."""
    return texture


@pytest.fixture(name="shots")
def shots_fixture() -> Callable[..., list[np.ndarray]]:
    """A film of still shots."""
    return shots


@pytest.fixture
def png() -> Callable[..., bytes]:
    """The bytes of a picture of a seed."""

    def make(seed: int, width: int = 160, height: int = 96) -> bytes:
        return cv2.imencode(".png", texture(seed, width, height)[..., ::-1])[1].tobytes()

    return make


@pytest.fixture
def picture(png: Callable[..., bytes]) -> Callable[..., Path]:
    """Writes a PNG file of a seed."""

    def save(path: Path, seed: int = 1) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(seed))
        return path

    return save
