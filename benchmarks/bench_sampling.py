"""What drawing sets costs over the bare denoising loop, what batches win, and what scoring costs.

Run: ``python benchmarks/bench_sampling.py [base] [sets]``; prints one table. The bare loop is the
same base, steps, guidance and batch in ten lines: no files, no records, text encoded beforehand.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch

from iclora.evaluation.judges import Judges
from iclora.evaluation.measure import measure
from iclora.evaluation.renders import open_picture
from iclora.models.clip import load_clip
from iclora.presets import load_config
from iclora.sampling.drawing import draw_wishes
from iclora.sampling.painter import Painter, Wish, load_painter

ROUNDS = 3


def bare_loop(painter: Painter, config, captions) -> float:
    """Seconds of denoising and decoding, and nothing else."""
    family, folder, params = painter.family, painter._folder, config.sample
    grid = painter.grid(config.layout)
    text, null = painter._text(captions), painter._text([""] * len(captions))
    channels = family.token_channels(painter.transformer)
    start = time.perf_counter()
    with torch.inference_mode():
        x = torch.randn(len(captions), grid.count, channels)
        for a, b in pairwise(family.sigmas(folder, params.steps, grid.count)):
            t = torch.full((len(x),), a)
            know = {"grid": grid, "guidance": params.guidance}
            with_text = family.predict(painter.transformer, x, t, text, **know)
            without = family.predict(painter.transformer, x, t, null, **know)
            x = x + (b - a) * (without + params.true_cfg * (with_text - without))
        for row in x:
            family.decode(painter.vae, row[None], grid)
    return time.perf_counter() - start


def main() -> None:
    base = sys.argv[1] if len(sys.argv) > 1 else "miniature/flux"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    config = load_config("miniature", {"base.model": base})
    painter = load_painter(config.base.model, config.base.family, "", "auto")
    captions = [
        f"[MOVIE-SHOTS] a story of <Ann> number {n}, [SCENE-1] a wide shot of <Ann> waving, "
        f"[SCENE-2] a close shot of <Ann> reading a book, [SCENE-3] a medium shot of <Ann> waving."
        for n in range(count)
    ]
    painter.read([*captions, ""])
    times: dict[str, list[float]] = {}
    canvases: list[Path] = []
    for number in range(ROUNDS):
        for batch in (1, 8):
            sized = config.model_copy(
                update={"sample": config.sample.model_copy(update={"batch": batch})}
            )
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                wishes = [Wish(caption, number) for caption in captions]
                records = draw_wishes(wishes, sized, Path(folder))
                times.setdefault(f"ours, batch {batch}", []).append(time.perf_counter() - start)
                bare = sum(
                    bare_loop(painter, sized, captions[at : at + batch])
                    for at in range(0, count, batch)
                )
                times.setdefault(f"bare, batch {batch}", []).append(bare)
                canvases = [Path(folder) / record.canvas for record in records]
                clip = load_clip(config.evaluate.clip)
                openers = [[lambda file=file: open_picture(file)] for file in canvases]
                start = time.perf_counter()
                measure(openers, config.layout, Judges(clip))
                times.setdefault("scoring", []).append(time.perf_counter() - start)
    best = {name: min(values) / count for name, values in times.items()}
    print(
        f"{base}, {config.sample.steps} steps, {count} sets, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, best of {ROUNDS}"
    )
    for name, value in best.items():
        print(f"{name:16} {value * 1000:8.1f} ms a set")
    for batch in (1, 8):
        ratio = best[f"ours, batch {batch}"] / best[f"bare, batch {batch}"]
        print(f"ours / bare, batch {batch}: {ratio:.3f}")
    print(f"batch 1 / batch 8: {best['ours, batch 1'] / best['ours, batch 8']:.2f}")
    print(f"scoring / drawing (batch 8): {best['scoring'] / best['ours, batch 8']:.3f}")


if __name__ == "__main__":
    main()
