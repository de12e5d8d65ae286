"""Writing shards against the standard library's tarfile with a sha256 over the same members.

Run: ``python benchmarks/bench_shards.py [samples] [kilobytes]``; prints one table. Ours also checks
the records, takes an md5 (the wids index asks for it) and makes every shard appear whole; bare is
``tarfile`` to a file that hashes what it is given, and one fsync at the end, as ours does.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from iclora.dataset.shard_writer import Sample, members_of, write_shards
from schemas.sample import CaptionRecord, PanelRecord, SampleRecord
from schemas.sharding import ShardParams

ROUNDS = 7
WANTED = 0.8


class Hashed:
    """A file that hashes what is written."""

    def __init__(self, file) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Hashes and writes."""
        self.sha256.update(data)
        return self.file.write(data)


def make_samples(count: int, kilobytes: int) -> list[Sample]:
    noise = random.Random(0)  # noqa: S311 - filler
    samples: list[Sample] = []
    for number in range(count):
        image = noise.randbytes(kilobytes * 1024)
        digest = hashlib.sha256(image).hexdigest()
        panels = tuple(
            PanelRecord(
                marker=f"[SCENE-{panel}]", box=(0, 512 * panel, 1024, 512 * panel + 512),
                caption="in a kitchen with warm light <Ann> pours the tea and looks up " * 2,
                source="film.mp4@0123456789abcdef", source_box=(0, 66, 1920, 1014), shot=panel,
                time=1.25 * number, sha256=digest,
            )
            for panel in (1, 2, 3)
        )  # fmt: skip
        record = SampleRecord(
            key=f"{number:016x}", layout="3x1", width=1024, height=1536, panels=panels, masks=(),
            image_sha256=digest,
            caption=CaptionRecord(
                prefix="[MOVIE-SHOTS]", summary="a morning with <Ann>", roles=("Ann",),
                captioner="model@revision", image_sha256=digest,
            ),
            scores=dict.fromkeys(("entropy", "luma", "merit", "sharpness", "text"), 0.5),
            licence="cc-by-4.0", split="train",
        )  # fmt: skip
        samples.append(Sample(record, "[MOVIE-SHOTS] a morning with <Ann>" * 8, image, "jpg"))
    return samples


def ours(samples: list[Sample], folder: Path) -> None:
    write_shards(samples, folder, "train", ShardParams())


def bare(members: list[list[tuple[str, bytes]]], folder: Path) -> None:
    with (folder / "bare.tar").open("wb") as file:
        with tarfile.open(fileobj=Hashed(file), mode="w|", format=tarfile.USTAR_FORMAT) as shard:
            for sample in members:
                for name, data in sample:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    shard.addfile(info, io.BytesIO(data))
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    kilobytes = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    samples = make_samples(count, kilobytes)
    members = [members_of(sample) for sample in samples]
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(ROUNDS):
        for name, work, given in (("ours", ours, samples), ("bare", bare, members)):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                work(given, Path(folder))
                times[name].append(time.perf_counter() - start)
    best = {name: min(values) for name, values in times.items()}
    print(f"{count} samples of {kilobytes} kB, {os.cpu_count()} cores, best of {ROUNDS}")
    for name, value in best.items():
        print(
            f"{name:5} {count / value:8.0f} samples/s {count * kilobytes / value / 1e6:6.2f} GB/s"
        )
    ratio = best["bare"] / best["ours"]
    print(f"ours / bare speed: {ratio:.2f} (wanted {WANTED})")


if __name__ == "__main__":
    main()
