"""``metrics.jsonl``: one line a step, and nothing in it that differs between equal runs.

A step's row is ``{"step": 1.., "loss", "norm", "lr", "panels": [loss of each panel]}``; ``norm`` is
the gradient's before it is clipped, a panel without a measured token says -1. A step that was
skipped has ``"loss": null`` and nothing else. After a validation comes a row ``{"step",
"validation": {"all", "t=0.5", …, "panel-1", …}}``. ``tensorboard/`` beside it holds the same
numbers.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

from iclora.store import atomic_write
from iclora.training.tensorboard_log import TensorBoardLog

Row = dict[str, Any]

TENSORBOARD = "tensorboard"
"""The folder of TensorBoard's copy, beside the journal."""


class MetricsLog:
    """Appends rows; a resumed run first forgets what came after its checkpoint."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [row for row in read_metrics(path) if row["step"] <= step]
        atomic_write(path, "".join(map(_line, kept)).encode())
        self._file = path.open("a", encoding="utf-8")
        self._board = TensorBoardLog(path.with_name(TENSORBOARD), kept)

    def write(self, row: Row) -> None:
        """Adds a row; floats are rounded to six digits."""
        rounded: Row = _rounded(row)
        self._file.write(_line(rounded))
        self._file.flush()
        self._board.write(rounded)

    def sync(self) -> None:
        """Makes everything so far survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._board.close()


def read_metrics(path: Path) -> list[Row]:
    """The rows of a journal; a last line that a kill cut short is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def final_loss(path: Path) -> float:
    """The mean loss over the last tenth of the steps; 0 for a run without a finite loss."""
    losses = [row["loss"] for row in read_metrics(path) if row.get("loss") is not None]
    tail = losses[-max(1, len(losses) // 10) :]
    return round(sum(tail) / len(tail), 6) if tail else 0.0


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [_rounded(part) for part in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in cast("Row", value).items()}
    return value
