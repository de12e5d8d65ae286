"""What each stage of a build costs, so that the cost of a large one can be worked out.

Run: ``python benchmarks/bench_rates.py [--requests | --flow N] [FILM ...]``; prints one table.
Without films four of the film world's are rendered. Sources are worked on one after another by one
thread, so rates are those of one core, without the loading of models. With ``--requests`` the store
is a local S3 server (moto) whose requests are counted, in a first run and in one that finds all
done; its times mean nothing. ``--flow N`` builds N short films and then finds them done, by the
library and by the flow: the difference is what Prefect takes. The last lines say of how many films
as these a build of ten minutes may be for that to stay within two hundredths, and what it is of one
whose films take so many seconds each. Models are the preset's, ``miniature``: a larger CLIP or
captioner has a rate of its own.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np
from PIL import Image

from iclora.build import build_dataset
from iclora.captioning import caption_source
from iclora.dataset.publish import publish_dataset
from iclora.filtering import calibrate, choose_sets, form_sets, score_frames
from iclora.filtering.dedup import find_duplicates
from iclora.ingest import ingest_source, resolve_sources
from iclora.miniature.film import encode_film, render_film
from iclora.miniature.script import film_script
from iclora.models.clip import load_clip
from iclora.pipeline.stage import result_of
from iclora.presets import load_config
from iclora.stitching import stitch_source
from iclora.store import Store
from schemas.config import Config
from schemas.job import BuildJob
from schemas.stage import Captioned, Chosen, Formed, Ingested, Scored, SourceStages, Stitched
from tasks.executor import batch_sizes
from tasks.prefect_defaults import max_concurrent_runs

FILMS = 4
SHARE = 0.02
"""Of a ten-minute build, for orchestration."""

RUNS = 7
"""Of the flow, once all is done and imported. They scatter: a request that meets a locked SQLite is
made again after some two seconds."""

PACES = (0.5, 1.0, 2.0, 5.0)
"""Seconds of the build's wall time that a film takes."""

SHOTS = 6
SHAPES = {"ingest": Ingested, "quality": Scored, "sets": Formed, "choose": Chosen,
          "stitch": Stitched, "caption": Captioned}  # fmt: skip
SETTINGS = {"filter.max_sets": 0, "filter.max_set_similarity": 1.0}
LARGE = {"layout.panel_width": 1024, "layout.panel_height": 512}
"""For films that are given: panels as the published recipe has them."""


class Clock:
    """Adds up what stages take: seconds of the processor, items, requests, peak memory."""

    def __init__(self, store: Store, requests: Counter[str]) -> None:
        self.store, self.requests = store, requests
        self.rows: dict[str, Counter[str]] = {}

    def __call__(self, stage: str, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Does the work and adds it to the row of its stage."""
        cpu, before = time.process_time(), self.requests.copy()
        made = work(self.store, *given, **named)
        row = self.rows.setdefault(stage, Counter())
        row["cpu"] += time.process_time() - cpu
        row["parts"] += 1
        row.update({name: count - before[name] for name, count in self.requests.items()})
        row["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        if stage in SHAPES:
            result = result_of(self.store, made, SHAPES[stage])
            row["seen"] += result.seen
            row["kept"] += sum(verdict.outcome == "kept" for verdict in result.verdicts)
        return made


class Counted(logging.Handler):
    """Counts the requests in the S3 server's log."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """One line is one request."""
        words = record.getMessage().replace('"', " ").split()
        verb = next((word for word in words if word.endswith(("GET", "PUT", "HEAD", "POST"))), "")
        self.requests["reads" if verb.endswith(("GET", "HEAD")) else "writes"] += 1


def build(clock: Clock, films: Sequence[Path], config: Config) -> None:
    """A build, stage by stage."""
    sources, judged = resolve_sources(
        [str(film) for film in films], config.ingest, clock.store.work_folder
    )
    ingested = [clock("ingest", ingest_source, source, config) for source in sources]
    scored = [clock("quality", score_frames, ref, config) for ref in ingested]
    bounds = clock("calibrate", calibrate, scored, config)
    formed = [clock("sets", form_sets, ref, bounds, config) for ref in scored]
    chosen = clock("choose", choose_sets, formed, config)
    stitched = [clock("stitch", stitch_source, ref, chosen, config) for ref in ingested]
    captioned = [clock("caption", caption_source, ref, config) for ref in stitched]
    stages = [
        SourceStages(ingested=a, scored=b, formed=c, stitched=d, captioned=e)
        for a, b, c, d, e in zip(ingested, scored, formed, stitched, captioned, strict=True)
    ]
    job = BuildJob(
        store=clock.store.url,
        name="rates",
        config=config,
        sources=tuple(sources),
        refused=tuple(judged),
    )
    clock("publish", publish_dataset, job, stages, chosen)


def show_films(films: Sequence[Path]) -> None:
    """What was given: frames to decode, seconds, megabytes."""
    for film in films:
        with av.open(str(film)) as opened:
            video = opened.streams.video[0]
            frames = video.frames or sum(1 for _ in opened.demux(video))
            print(f"{film.name}: {video.width}x{video.height}, {frames} frames to decode, "
                  f"{film.stat().st_size / 1e6:.1f} MB")  # fmt: skip


def show_rates(clock: Clock) -> None:
    head = ("stage", "parts", "in", "kept", "CPU s", "in/CPU s", "ms each", "MB kept", "peak MiB")
    print("".join(f"{word:>10}" for word in head))
    for stage, row in clock.rows.items():
        items, cpu = row["seen"] or row["parts"], row["cpu"]
        size = (
            clock.store.fs.du(clock.store.path(f"stages/{stage}")) / 1e6 if stage in SHAPES else 0
        )
        print(f"{stage:>10}{row['parts']:10}{row['seen']:10}{row['kept']:10}{cpu:10.2f}"
              f"{items / max(cpu, 1e-9):10.1f}{1000 * cpu / items:10.2f}{size:10.2f}{row['rss']:10}"
              )  # fmt: skip


def show_clip(config: Config) -> None:
    """How much of the stage quality is CLIP."""
    clip = load_clip(config.filter.clip)
    picture = [Image.new("RGB", (1280, 720), (90, 120, 150))] * 32
    clip.images(picture)
    cpu = time.process_time()
    clip.images(picture)
    print(f"quality: {config.filter.clip} takes {1000 * (time.process_time() - cpu) / 32:.1f} ms "
          "a picture of 1280x720, scaling it included")  # fmt: skip


def show_twins() -> None:
    """How looking for near-identical sets grows, with vectors of the width of ViT-L/14."""
    noise = np.random.default_rng(0)
    for count in (2000, 4000, 8000, 16000):
        rows = noise.standard_normal((count, 3, 768), np.float32)
        rows /= np.linalg.norm(rows, axis=2, keepdims=True)
        cpu = time.process_time()
        find_duplicates(list(rows), 0.95)
        print(f"twins among {count} sets: {time.process_time() - cpu:.1f} CPU s")


def show_requests(films: Sequence[Path], config: Config) -> None:
    from moto.server import ThreadedMotoServer

    server, counted = ThreadedMotoServer(ip_address="127.0.0.1", port=0), Counted()
    log = logging.getLogger("werkzeug")
    log.handlers, log.propagate = [counted], False
    log.setLevel(logging.INFO)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL_S3": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "any",
                   "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        os.environ["ICLORA_WORK"] = work
        Store("s3://rates").fs.mkdir("rates")
        for title in ("requests of a first build", "requests of one that finds all done"):
            clock = Clock(Store("s3://rates/store"), counted.requests)
            build(clock, films, config)
            print(title)
            for stage, row in clock.rows.items():
                each = {kind: row[kind] / row["parts"] for kind in ("reads", "writes")}
                print(f"{stage:>10}{each['reads']:8.1f} reads {each['writes']:8.1f} writes a part")
    server.stop()


def show_flow(folder: Path, count: int, config: Config) -> None:
    from prefect.testing.utilities import prefect_test_harness

    for seed in range(count):
        film = film_script(seed)
        short = film.model_copy(update={"shots": film.shots[:SHOTS]})
        encode_film(short, folder / "films" / f"{seed:04d}.mp4")
    store, films = f"{folder}/store", [str(folder / "films")]

    def library() -> None:
        build_dataset(Store(store), films, config, "flow")

    def flow() -> None:
        from flows import build_dataset as flows

        flows.build_dataset(films, "miniature", "", "flow", store, SETTINGS)

    with prefect_test_harness(server_startup_timeout=120):
        print(f"{count} films of {SHOTS} shots, of which later runs find all done")
        walls: dict[str, list[float]] = {}
        for title, work in (("first, library", library), ("again, library", library),
                            ("first, flow", flow), *[("again, flow", flow)] * RUNS):  # fmt: skip
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            walls.setdefault(title, []).append(wall)
            print(f"{title:>16}{wall:8.1f} s{1000 * wall / count:8.0f} ms a film"
                  f"{cpu:8.1f} CPU s here")  # fmt: skip
    runs, (library_wall,) = walls["again, flow"], walls["again, library"]
    print(f"flow: median {median(runs):.1f} s, {min(runs):.1f} to {max(runs):.1f}")
    show_share(count, median(runs) - library_wall)


def show_share(count: int, seconds: float) -> None:
    """What it is of a build of ten minutes that Prefect took so many seconds for so many films."""
    each, batch = seconds / count, seconds / batches_of(count)
    print(f"Prefect takes {1000 * each:.0f} ms a film: {SHARE:.0%} of ten minutes are reached "
          f"at {SHARE * 600 / each:.0f} films")  # fmt: skip
    print(f"It takes {1000 * batch:.0f} ms per batch ({batches_of(count)} of {count} films)")
    for pace in PACES:
        films = round(600 / pace)
        batches = batches_of(films)
        print(f"{films:6} films of {pace:4.1f} s make {batches:4} batches: "
              f"{batch * batches / 600:.1%} of ten minutes")  # fmt: skip


def batches_of(count: int) -> int:
    """Counts the batches of this many small films."""
    return len(batch_sizes([0] * count, max_concurrent_runs()))


def main() -> None:
    arguments = [word for word in sys.argv[1:] if word != "--requests"]
    if "--flow" in arguments:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PREFECT_HOME"] = folder
            show_flow(Path(folder), int(arguments[-1]), load_config("miniature", SETTINGS))
        return
    config = load_config("miniature", SETTINGS | (LARGE if arguments else {}))
    with tempfile.TemporaryDirectory() as folder:
        films = [Path(word) for word in arguments]
        for seed in range(0 if films else FILMS):
            films.append(Path(folder) / f"film-{seed}.mp4")
            render_film(seed, films[-1])
        show_films(films)
        if "--requests" in sys.argv:
            show_requests(films, config)
            return
        # All of them: one alone may make no set.
        build(Clock(Store(f"{folder}/warm"), Counter()), films, config)
        clock = Clock(Store(f"{folder}/store"), Counter())
        build(clock, films, config)
        show_rates(clock)
        show_clip(config)
        show_twins()


if __name__ == "__main__":
    main()
