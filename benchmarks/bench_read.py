"""Reading a folder of 1080p JPEGs against a bare draft-decode loop over the same files.

Run: ``python benchmarks/bench_read.py [pictures]``; prints one table. Bare is Pillow's ``draft`` to
at least 256 pixels, one picture after the other, nothing kept. Ours hashes every file, checks that
all of it decodes, links it into the store, looks for bars, logos and watermarks, and writes the
manifest; it uses every core, so the share of its CPU seconds is shown too.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from iclora.ingest import ingest_source, resolve_sources
from iclora.presets import load_config
from iclora.store import Store

ROUNDS = 3
WANTED = 0.9
PLAIN = ('ingest.watermark="ignore"', "ingest.crop_bars=false")


def render(folder: Path, count: int) -> None:
    """Pictures of blobs and noise that are as large as film frames are."""
    random = np.random.default_rng(0)
    for number in range(count):
        rough = random.integers(0, 255, (9, 16, 3), dtype=np.uint8)
        picture = cv2.resize(rough, (1920, 1080), interpolation=cv2.INTER_CUBIC)
        for _ in range(60):
            place = (int(random.integers(0, 1920)), int(random.integers(0, 1080)))
            colour = [int(value) for value in random.integers(0, 255, 3)]
            cv2.circle(picture, place, int(random.integers(5, 90)), colour, -1)
        noisy = picture.astype(np.int16) + random.integers(-6, 7, picture.shape, dtype=np.int16)
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        image.save(folder / f"{number:05d}.jpg", quality=80)


def bare(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        with Image.open(file) as image:
            image.draft("RGB", (256, 256))
            image.load()


def ours(folder: Path, overrides: tuple[str, ...]) -> None:
    config = load_config("movie-shots", overrides)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        store = Store(scratch)
        (source,), _ = resolve_sources([str(folder)], config.ingest, store.work_folder)
        ingest_source(store, source, config)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    works = {
        "bare draft decode": bare,
        "ours": lambda folder: ours(folder, ()),
        "ours, no overlays": lambda folder: ours(folder, PLAIN),
    }
    walls: dict[str, list[float]] = {name: [] for name in works}
    cpus: dict[str, list[float]] = {name: [] for name in works}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pictures"
        folder.mkdir()
        render(folder, count)
        size = sum(file.stat().st_size for file in folder.iterdir()) / count
        for _ in range(ROUNDS):
            for name, work in works.items():
                start, busy = time.perf_counter(), time.process_time()
                work(folder)
                walls[name].append(time.perf_counter() - start)
                cpus[name].append(time.process_time() - busy)
    cores = len(os.sched_getaffinity(0))
    print(f"{count} JPEGs of 1920x1080, {size / 1000:.0f} kB, {cores} cores, best of {ROUNDS}")
    print(f"{'':18} {'pictures/s':>10} {'CPU ms':>7} {'speed':>6}")
    base = min(walls["bare draft decode"])
    for name in works:
        wall, cpu = min(walls[name]), min(cpus[name])
        print(f"{name:18} {count / wall:10.0f} {1000 * cpu / count:7.2f} {base / wall:6.2f}")
    print(f"wanted: ours at {WANTED} or more of the bare loop's speed")


if __name__ == "__main__":
    main()
