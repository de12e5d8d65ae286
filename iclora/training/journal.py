"""``metrics.jsonl``: one line a step, and nothing in it that differs between equal runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

Row = dict[str, Any]


class Journal:
    """Appends rows; a resumed run first forgets what came after its checkpoint."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [row for row in read_rows(path) if row["step"] <= step]
        path.write_text("".join(map(_line, kept)), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: Row) -> None:
        """Adds a row; floats are rounded to six digits."""
        self._file.write(_line({key: _rounded(value) for key, value in row.items()}))
        self._file.flush()

    def sync(self) -> None:
        """Makes everything so far survive a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_rows(path: Path) -> list[Row]:
    """The rows of a journal; a last line that a kill cut short is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def final_loss(path: Path) -> float:
    """The mean loss over the last tenth of the steps; 0 for a run without a finite loss."""
    losses = [row["loss"] for row in read_rows(path) if row.get("loss") is not None]
    tail = losses[-max(1, len(losses) // 10) :]
    return round(sum(tail) / len(tail), 6) if tail else 0.0


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [_rounded(part) for part in cast("list[Any]", value)]
    return value
