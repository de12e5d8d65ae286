"""What starting costs: ``iclora --help`` and importing the flows, against what they stand on.

Run: ``python benchmarks/bench_start.py``; prints one table. Every start is a process of its own;
the best of several counts, because a busy machine can only slow a start down.
"""

from __future__ import annotations

import subprocess
import sys
import time

ROUNDS = 9
PAIRS = (
    ("iclora --help", ["-m", "iclora", "--help"], "typer", ["-c", "import typer"], 3.0),
    (
        "import flows",
        ["-c", "import flows.build_dataset, flows.train_adapter, flows.evaluate_adapter"],
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
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    print(f"best of {ROUNDS} starts")
    for ours, run, base, bare, most in PAIRS:
        times = [(seconds(run), seconds(bare)) for _ in range(ROUNDS)]
        one, other = (min(column) for column in zip(*times, strict=True))
        print(f"{ours:14} {one:6.3f} s / {base:14} {other:6.3f} s = {one / other:.2f} (<= {most})")
    for name, code in NO_TORCH:
        check = f"{code}print('torch' in sys.modules, file=sys.stderr)"
        ended = subprocess.run(
            [sys.executable, "-c", check], check=True, capture_output=True, text=True
        )
        print(f"{name:14} imports torch: {ended.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
