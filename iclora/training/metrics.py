"""Metrics log ``metrics.jsonl``: one line per step, identical across equal runs.

Rows of steps have the form ``{"step": 1.., "loss", "norm", "lr", "panels": [loss per panel]}``.
``norm`` is the gradient norm before clipping; a panel without measured tokens has loss -1. A
skipped step has ``"loss": null`` and no further fields. Each validation appends a row ``{"step",
"validation": {"all", "t=0.5", …, "panel-1", …}}``. The adjacent ``tensorboard/`` folder holds the
same numbers at the times at which they were written.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

from iclora.store import atomic_write

Row = dict[str, Any]

TENSORBOARD = "tensorboard"
"""Folder of the TensorBoard copy, next to the metrics log."""


class MetricsLog:
    """Append-only metrics log that drops rows past the resumed checkpoint."""

    def __init__(self, path: Path, step: int) -> None:
        # Imported late: TensorBoard takes half a second to load; reading metrics needs none of it.
        from torch.utils.tensorboard import SummaryWriter

        kept = [row for row in read_metrics(path) if row["step"] <= step]
        atomic_write(path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._file = path.open("a", encoding="utf-8")
        folder = path.with_name(TENSORBOARD)
        has_events = folder.exists()
        # TensorBoard hides events from ``purge_step`` on in the files of an interrupted process.
        self._board: Any = SummaryWriter(str(folder), purge_step=step + 1)
        if not has_events:  # resumed on another machine, which got the metrics log alone
            for row in kept:
                self._add_scalars(row)

    def write(self, row: Row) -> None:
        """Appends a row, rounding floats to six significant digits."""
        rounded: Row = _rounded(row)
        self._file.write(json.dumps(rounded) + "\n")
        self._file.flush()
        self._add_scalars(rounded)
        self._board.flush()

    def _add_scalars(self, row: Row) -> None:
        """Copies a row to tags such as ``loss``, ``panel/1``, and ``validation/t=0.5``."""
        scalars = {name: row.get(name) for name in ("loss", "norm", "lr")}
        for number, loss in enumerate(row.get("panels", ()), start=1):
            scalars[f"panel/{number}"] = loss if loss >= 0 else None  # -1: no measured tokens
        for name, loss in row.get("validation", {}).items():
            scalars[f"validation/{name}"] = loss
        for tag, value in scalars.items():
            if value is not None:
                self._board.add_scalar(tag, value, row["step"])

    def sync(self) -> None:
        """Flushes all rows to disk with fsync."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the metrics and TensorBoard files."""
        self._file.close()
        self._board.close()


def read_metrics(path: Path) -> list[Row]:
    """Reads the rows of a metrics log, skipping a truncated last line."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def final_loss(path: Path) -> float:
    """Computes the mean finite loss over the last tenth of the steps; 0 if there is none."""
    losses = [row["loss"] for row in read_metrics(path) if row.get("loss") is not None]
    tail = losses[-max(1, len(losses) // 10) :]
    return round(sum(tail) / len(tail), 6) if tail else 0.0


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [_rounded(part) for part in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in cast("Row", value).items()}
    return value
