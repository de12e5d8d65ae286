"""The GPU benchmark runs as a script on a small base."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_gpu.py"


def test_it_measures_every_row_on_a_cpu(tiny_flux):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--base", str(tiny_flux), "--sizes", "64x64", "64x96",
         "--text", "8", "--steps", "1", "--warm", "0", "--device", "cpu"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| 64x")]
    modes = ["bf16", "fp8"]
    if importlib.util.find_spec("bitsandbytes") is None:
        assert "nf4: not measured: train.weights = 'nf4' needs bitsandbytes" in done.stdout
    else:
        modes.append("nf4")
    assert [(row[1].strip(), row[0].strip(), row[2].strip()) for row in rows] == [
        (mode, size, share) for mode in modes for size in ("64x64", "64x96")
        for share in ("0%", "100%")
    ]  # fmt: skip
    assert all(float(row[4]) > 0 for row in rows)
