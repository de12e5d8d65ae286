"""A whole build: against its bare stages, with a slow captioner elsewhere, and with ten times more.

Run: ``python benchmarks/bench_build.py [films] [FILM ...]`` on an otherwise idle machine; prints
one table a question. Films are the film world's, which are tiny (256 x 192, 35 seconds); films that
are given are measured too. Models are the miniature's, and once more with a CLIP of the size that
the preset ``open-models`` names (ViT-L/14 with random weights; 2 GB of memory). Every figure comes
from a process of its own, in which models were loaded and a film was built before the clock starts.
What Prefect takes is measured by ``bench_rates.py --flow``.

- Bare stages: on the same films, frames, panels and canvases, the libraries alone: PySceneDetect's
  ``detect``, CLIP on opened frames, the captioner on panels, Pillow's resize, paste and JPEG, and
  tarfile with sha256. Their CPU seconds are summed; half of that is what two cores could do.
- Our own stages, each done for all films by one thread before the next begins: half of their CPU
  seconds is what two cores could do if work of different stages never had to wait.
- The slow captioner is a server here that answers after a fixed time. The slowest stage is the
  longest of all when every stage is done for all films before the next begins.
- Memory is the peak of a process that builds a tenth of the films, and of one that builds all.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image

from iclora.build import CAPTIONED_AT_ONCE, MAX_THREADS, build_dataset
from iclora.captioning import caption_source
from iclora.filtering import calibrate, choose_sets, form_sets, score_frames
from iclora.ingest import ingest_source, resolve_sources
from iclora.miniature.film import render_film
from iclora.pipeline.stage import file_of, result_of
from iclora.presets import load_config
from iclora.stitching import stitch_source
from iclora.store import Store
from schemas.config import Config
from schemas.stage import Ingested, StageRef, Stitched

FILMS, LATENCY = 10, 1.0
WARMING = 990_000
"""The film, by its number, with which a process loads its models."""

MEMORY = 2
"""Films whose build is compared with one of ten times as many: one for each of two cores."""

CLIP, LARGE = "ViT-L-14", 4
"""The size of CLIP that a preset for real films names, and how many films it looks at."""

SETTINGS: dict[str, Any] = {"filter.max_sets": 0, "caption.max_tokens": 512}
BEYOND_HALF, CORES, BEYOND_SLOWEST, GROWTH = 1.15, 1.8, 1.25, 1.1
WORDS = ("paints opens carries watches mends", "a", "red small heavy broken wooden",
         "door boat basket lamp chair", "in", "the", "garden harbour kitchen street")  # fmt: skip
Figures = dict[str, float]


class Slow(BaseHTTPRequestHandler):
    """A captioner that thinks for a fixed time and makes something up."""

    def do_POST(self) -> None:  # noqa: D102 - the standard library's name
        dice = random.Random(self.rfile.read(int(self.headers["Content-Length"])))  # noqa: S311 - filler
        time.sleep(LATENCY)
        text = f"<Ann> {' '.join(dice.choice(words.split()) for words in WORDS)}"
        said = {"message": {"content": text}, "finish_reason": "stop"}
        answer = json.dumps({"choices": [said]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def slow_settings() -> Iterator[dict[str, Any]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    captioner = {"kind": "server", "url": url, "model": "slow", "json_output": False}
    yield SETTINGS | {f"caption.captioner.{name}": value for name, value in captioner.items()}
    server.shutdown()


def warm(store: Store, settings: dict[str, Any]) -> Config:
    """Loads everything by building a film of the film world elsewhere."""
    config = load_config("miniature", settings)
    film = f"{store.root}-warm-{os.getpid()}.mp4"
    render_film(WARMING, Path(film))
    build_dataset(Store(f"{store.root}-warm-{os.getpid()}"), [film], config, "warm")
    return config


def whole(store: Store, films: list[str], settings: dict[str, Any]) -> Figures:
    config = warm(store, settings)
    wall, cpu = time.perf_counter(), time.process_time()
    build_dataset(store, films, config, "bench")
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu}


def apart(store: Store, films: list[str], settings: dict[str, Any]) -> Figures:
    """Seconds of each stage when all films have it done before the next stage begins."""
    many = min(len(films), os.cpu_count() or 1, MAX_THREADS)
    return stages_apart(store, films, settings, time.perf_counter, many, CAPTIONED_AT_ONCE)


def alone(store: Store, films: list[str], settings: dict[str, Any]) -> Figures:
    """CPU seconds of each stage, done by one thread before the next stage begins."""
    return stages_apart(store, films, settings, time.process_time, 1, 1)


def stages_apart(
    store: Store,
    films: list[str],
    settings: dict[str, Any],
    clock: Callable[[], float],
    many: int,
    captioned: int,
) -> Figures:
    config = warm(store, settings)
    walls: Figures = {}

    def each(name: str, threads: int, work: Callable[..., Any], *items: Any) -> list[Any]:
        start = clock()
        with ThreadPoolExecutor(threads) as pool:
            done = list(pool.map(work, *items))
        walls[name] = clock() - start
        return done

    sources, _ = resolve_sources(films, config.ingest, store.work_folder)
    read = each("ingest", many, lambda one: ingest_source(store, one, config), sources)
    scored = each("quality", many, lambda one: score_frames(store, one, config), read)
    bounds = calibrate(store, scored, config)
    formed = each("sets", many, lambda one: form_sets(store, one, bounds, config), scored)
    (chosen,) = each("choose", 1, lambda one: choose_sets(store, one, config), [formed])
    cut = each("stitch", many, lambda one: stitch_source(store, one, chosen, config), read)
    each("caption", captioned, lambda one: caption_source(store, one, config), cut)
    return walls


def bare(store: Store, films: list[str], settings: dict[str, Any]) -> Figures:
    """CPU seconds of what the libraries need for what the build in this store made."""
    config = warm(store, settings)
    canvases = [(ref, one) for ref, result in results(store, Stitched) for one in result.canvases]
    works = {
        "decode, shots": lambda: bare_shots(films),
        "clip": lambda: bare_clip(store, config),
        "captions": lambda: bare_captions(store, canvases, config),
        "stitch, encode": lambda: bare_stitch(store, canvases),
        "tar": lambda: bare_tar(store, canvases),
    }
    cpus: Figures = {}
    for name, work in works.items():
        start = time.process_time()
        work()
        cpus[name] = time.process_time() - start
    return cpus


def results(store: Store, kind: Any) -> list[tuple[StageRef, Any]]:
    """The finished stages of a kind."""
    stage = {Ingested: "ingest", Stitched: "stitch"}[kind]
    refs = [StageRef(stage=stage, digest=name) for name in store.listdir(f"stages/{stage}")]
    return [(ref, result_of(store, ref, kind)) for ref in refs]


def bare_shots(films: list[str]) -> None:
    import scenedetect

    for film in films:
        scenedetect.detect(film, scenedetect.AdaptiveDetector())


def bare_clip(store: Store, config: Config) -> None:
    from iclora.models.clip import load_clip

    for ref, found in results(store, Ingested):
        pictures = [Image.open(file_of(store, ref, frame.file)) for frame in found.frames]
        load_clip(config.filter.clip).images([picture.convert("RGB") for picture in pictures])


def bare_captions(store: Store, canvases: list[Any], config: Config) -> None:
    from iclora.models.vlm import Question, load_vlm

    captioner = config.caption.captioner
    asked: list[Question] = []
    for ref, one in canvases:
        picture = Image.open(file_of(store, ref, one.file))
        asked += [Question((picture.crop(panel.box),), "describe it") for panel in one.panels]
    model = load_vlm(captioner.model)
    model.answer(asked, max_new_tokens=captioner.max_new_tokens, batch=captioner.batch)


def bare_stitch(store: Store, canvases: list[Any]) -> None:
    places = {frame.id: file_of(store, ref, frame.file)
              for ref, found in results(store, Ingested) for frame in found.frames}  # fmt: skip
    for _, one in canvases:
        boxes = [panel.box for panel in one.panels]
        canvas = Image.new("RGB", (max(box[2] for box in boxes), max(box[3] for box in boxes)))
        for panel, frame in zip(one.panels, one.set.frames, strict=True):
            x0, y0, x1, y1 = panel.box
            picture = Image.open(places[frame.id]).convert("RGB")
            size = (x1 - x0, y1 - y0)
            canvas.paste(picture.resize(size, box=panel.source_box), (x0, y0))
        canvas.save(io.BytesIO(), "JPEG", quality=95, subsampling=0)


def bare_tar(store: Store, canvases: list[Any]) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as shard:
        for ref, one in canvases:
            data = file_of(store, ref, one.file).read_bytes()
            info = tarfile.TarInfo(f"{one.key}.jpg")
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    hashlib.sha256(file.getbuffer()).hexdigest()


def in_child(kind: str, store: str, films: list[str], settings: dict[str, Any]) -> Figures:
    """A measurement in a process of its own, and the most memory that process had (MiB)."""
    command = [sys.executable, __file__, "--child", json.dumps([kind, store, films, settings])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr)
    return json.loads(ended.stdout.splitlines()[-1])


KINDS = {"whole": whole, "apart": apart, "alone": alone, "bare": bare}


def child(arguments: str) -> None:
    kind, store, films, settings = json.loads(arguments)
    figures = KINDS[kind](Store(store), films, settings)
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


def verdict(title: str, value: float, wanted: str, bound: float) -> None:
    met = value >= bound if wanted == ">=" else value <= bound
    print(f"{title}: {value:.2f} (wanted {wanted} {bound}) {'met' if met else 'MISSED'}")


def released_clip(folder: Path) -> str:
    """A CLIP of released size with random weights, as an open_clip folder."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    weights = open_clip.create_model(CLIP).state_dict()
    save_file(weights, folder / "open_clip_model.safetensors")
    config = {"model_cfg": open_clip.get_model_config(CLIP), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return str(folder)


def show_cpu(title: str, folder: str, films: list[str], settings: dict[str, Any]) -> None:
    ours = in_child("whole", folder, films, settings)
    base = in_child("bare", folder, films, settings)
    own = in_child("alone", f"{folder}/alone", films, settings)
    for figures in (base, own):
        figures.pop("peak")
    print(f"{len(films)} films{title}: wall {ours['wall']:.1f} s, {ours['cpu']:.1f} CPU s; "
          "bare stages: " + ", ".join(f"{name} {value:.1f}" for name, value in base.items())
          + f" = {sum(base.values()):.1f} CPU s; our stages alone {sum(own.values()):.1f} CPU s"
          )  # fmt: skip
    verdict("  wall / half the bare CPU seconds", 2 * ours["wall"] / sum(base.values()), "<=",
            BEYOND_HALF)  # fmt: skip
    print(f"  wall / half our own stages' CPU seconds: {2 * ours['wall'] / sum(own.values()):.2f}")
    verdict("  cores busy", ours["cpu"] / ours["wall"], ">=", CORES)


def show_slow(folder: str, films: list[str]) -> None:
    with slow_settings() as settings:
        walls = in_child("apart", f"{folder}/apart", films, settings)
        ours = in_child("whole", f"{folder}/slow", films, settings)
    walls.pop("peak")
    print(f"captioner of {LATENCY} s a request: wall {ours['wall']:.1f} s; stages by themselves: "
          + ", ".join(f"{name} {value:.1f}" for name, value in walls.items()))  # fmt: skip
    verdict("  wall / slowest stage", ours["wall"] / max(walls.values()), "<=", BEYOND_SLOWEST)


def show_memory(folder: str, films: list[str]) -> None:
    few, many = (
        in_child("whole", f"{folder}/{name}", some, SETTINGS)["peak"]
        for name, some in (("few", films[:MEMORY]), ("many", films))
    )
    print(f"peak memory: {MEMORY} films {few:.0f} MiB, {len(films)} films {many:.0f} MiB")
    verdict("  ten times the input / the input", many / few, "<=", GROWTH)


def main() -> None:
    count, given = int(sys.argv[1]) if len(sys.argv) > 1 else FILMS, sys.argv[2:]
    print(f"{os.cpu_count()} cores, {len(os.sched_getaffinity(0))} of them ours, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        films = [f"{folder}/film-{seed:02d}.mp4" for seed in range(max(count, MEMORY * 10))]
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
            list(pool.map(render_film, range(len(films)), map(Path, films)))
        show_cpu("", f"{folder}/cpu", films[:count], SETTINGS)
        if given:
            show_cpu(" that were given", f"{folder}/given", given, SETTINGS)
        show_slow(folder, films[:count])
        show_memory(folder, films[: MEMORY * 10])
        # Last: a child's peak begins at its parent's, which holds this model once.
        large = SETTINGS | {"filter.clip": released_clip(Path(folder, "clip"))}
        show_cpu(f", {CLIP}", f"{folder}/large", films[:LARGE], large)
        if given:
            show_cpu(f" that were given, {CLIP}", f"{folder}/large-given", given, large)


if __name__ == "__main__":
    child(sys.argv[2]) if sys.argv[1:2] == ["--child"] else main()
