"""What drawing sets costs over the bare denoising loop, what batches win, and what scoring costs.

Run: ``python benchmarks/bench_sampling.py [base] [sets] [rounds]``; prints one table. The bare loop
is the same base, steps, guidance and batch in ten lines: no files, no records, text encoded
beforehand. Ours and bare take turns, so that other work on the machine meets both; a ratio is the
median over the rounds.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from iclora.evaluation.measurements import measure_canvases
from iclora.evaluation.renders import open_picture
from iclora.evaluation.scorers import load_scorers
from iclora.presets import load_config
from iclora.sampling.render import render_requests
from iclora.sampling.render_records import RenderRequest
from iclora.sampling.sampler import Sampler, load_sampler
from schemas.config import Config

BATCHES = (1, 8)
PROMPTS, SEEDS, COMPLETED, SIDES = 48, 2, 16, 2
"""A full evaluation against the base."""


def bare(sampler: Sampler, config: Config, captions: list[str]) -> None:
    """Denoising and decoding, and nothing else."""
    family, folder, params = sampler.family, sampler._folder, config.sample
    grid = sampler.grid(config.layout)
    know = {"grid": grid, "guidance": params.guidance}
    for at in range(0, len(captions), params.batch):
        batch = captions[at : at + params.batch]
        text, null = sampler._text(batch), sampler._text([""] * len(batch))
        x = torch.randn(len(batch), grid.count, family.token_channels(sampler.transformer))
        for a, b in pairwise(family.sigmas(folder, params.steps, grid.count)):
            t = torch.full((len(x),), a)
            told = family.predict(sampler.transformer, x, t, text, **know)
            untold = family.predict(sampler.transformer, x, t, null, **know)
            x = x + (b - a) * (untold + params.true_cfg * (told - untold))
        for row in x:
            family.decode(sampler.vae, row[None], grid)


def ours(config: Config, captions: list[str], seed: int, folder: Path) -> list[Path]:
    """The same through the front door: records, canvases, panels."""
    records = render_requests(
        [RenderRequest(caption, seed) for caption in captions], config, folder
    )
    return [folder / record.canvas for record in records]


def score(config: Config, canvases: list[Path]) -> None:
    """All judges that the configuration has."""
    openers = [[partial(open_picture, file)] for file in canvases]
    measure_canvases(openers, config.layout, load_scorers(config.evaluate, config.base))


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def one_round(base: Config, captions: list[str], number: int) -> dict[str, float]:
    """Seconds a set, by what was done."""
    found: dict[str, float] = {}
    sampler = load_sampler(base.base.model, base.base.family, "", "auto")
    for batch in BATCHES:
        sample = base.sample.model_copy(update={"batch": batch})
        config = base.model_copy(update={"sample": sample})
        with tempfile.TemporaryDirectory() as name, torch.inference_mode():
            folder = Path(name)
            turns = {
                f"ours {batch}": partial(ours, config, captions, number, folder),
                f"bare {batch}": partial(bare, sampler, config, captions),
            }
            for what in sorted(turns, reverse=bool(number % 2)):
                found[what] = timed(turns[what]) / len(captions)
            canvases = sorted(folder.glob("*.png"))
            found["scoring"] = timed(partial(score, config, canvases)) / len(captions)
    return found


def main() -> None:
    base = sys.argv[1] if len(sys.argv) > 1 else "miniature/flux"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    config = load_config(
        "miniature", {"base.model": base, "evaluate.attribute_reader": "miniature"}
    )
    captions = [
        f"[MOVIE-SHOTS] a story of <Ann> number {n}, [SCENE-1] a wide shot of <Ann> waving, "
        f"[SCENE-2] a close shot of <Ann> reading a book, [SCENE-3] a medium shot of <Ann> waving."
        for n in range(count)
    ]
    load_sampler(config.base.model, config.base.family, "", "auto").encode_captions([*captions, ""])
    one_round(config, captions[:2], 0)  # loads everything
    times = [one_round(config, captions, number) for number in range(rounds)]
    print(
        f"{config.sample.steps} steps, true CFG {config.sample.true_cfg:g}, {count} sets, "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {rounds} rounds\n"
    )
    print("| | seconds a set |\n|---|---|")
    for name in times[0]:
        print(f"| {name} | {median(t[name] for t in times):.3f} |")
    print("\n| | ratio | wanted |\n|---|---|---|")
    for batch in BATCHES:
        ratio = median(t[f"ours {batch}"] / t[f"bare {batch}"] for t in times)
        print(f"| ours / bare, batch {batch} | {ratio:.3f} | <= 1.05 |")
    batches = median(t["ours 8"] / t["ours 1"] for t in times)
    print(f"| a set in a batch of 8 / alone | {batches:.3f} | <= 1 |")
    scoring = median(t["scoring"] / t["ours 8"] for t in times)
    print(f"| scoring / drawing in batches of 8 | {scoring:.3f} | < 0.1 |")
    renders = SIDES * (PROMPTS * SEEDS + COMPLETED)
    whole = renders * median(t["ours 8"] + t["scoring"] for t in times)
    print(f"\nAn evaluation of {PROMPTS} captions has {renders} renders: {whole:.0f} s.")


if __name__ == "__main__":
    main()
