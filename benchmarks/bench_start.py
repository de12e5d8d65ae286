"""What starting costs: ``iclora --help`` and importing the flows, against what they stand on.

Run: ``python benchmarks/bench_start.py``; prints one table. Every start is a process of its own,
and its CPU seconds are counted; the best of several and their median are shown, because a busy
machine can only slow a start down.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from statistics import median

ROUNDS = 15
PAIRS = (
    ("iclora --help", ["-m", "iclora", "--help"], "typer", ["-c", "import typer"], 3.0),
    (
        "import flows",
        ["-c", "from flows import build_dataset, evaluate_adapter, retrain, train_adapter"],
        "import prefect",
        ["-c", "import prefect; from prefect import flow, task"],
        1.2,
    ),
)
_HELP = """
import runpy, sys
sys.argv = ["iclora", "--help"]
try:
    runpy.run_module("iclora", run_name="__main__")
except SystemExit:
    pass
"""
_FLOWS = """
import sys
import flows.build_dataset, flows.train_adapter, flows.evaluate_adapter, flows.retrain
"""
NO_TORCH = (("iclora --help", _HELP), ("import flows", _FLOWS))


def seconds(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    print(f"CPU seconds of {ROUNDS} starts: best, median")
    for ours, run, base, bare, most in PAIRS:
        times = [(seconds(run), seconds(bare)) for _ in range(ROUNDS)]
        for how in (min, median):
            one, other = (how(column) for column in zip(*times, strict=True))
            print(f"{ours:14} {one:6.3f} / {base:14} {other:6.3f} = {one / other:.2f} (<= {most})")
    for name, code in NO_TORCH:
        check = f"{code}print('torch' in sys.modules, file=sys.stderr)"
        ended = subprocess.run(
            [sys.executable, "-c", check], check=True, capture_output=True, text=True
        )
        print(f"{name:14} imports torch: {ended.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
