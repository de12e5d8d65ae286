"""TensorBoard copy of the metrics log.

The single event file is a pure function of the rows, with the step as the event time. Equal runs
therefore produce equal bytes, and a resumed run matches an uninterrupted one. torch's SummaryWriter
does not qualify because its file names and timestamps differ between runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FILE = "events.out.tfevents.0"
"""Name of the event file; TensorBoard requires ``tfevents`` in it."""


class TensorBoardLog:
    """Writer of metrics rows to ``folder/events.out.tfevents.0``."""

    def __init__(self, folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        # Imported late: TensorBoard takes half a second to load; reading metrics needs none of it.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._records = RecordWriter((folder / FILE).open("wb"))
        # Generated modules create their classes at run time.
        self._event: Any = vars(event_pb2)["Event"]
        self._summary: Any = vars(summary_pb2)["Summary"]
        self._append(self._event(wall_time=0, file_version="brain.Event:2"))
        for row in rows:
            self.write(row)

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends the scalars of a row."""
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars(row)]
        step = int(row["step"])
        self._append(self._event(wall_time=step, step=step, summary=self._summary(value=values)))

    def _append(self, event: Any) -> None:
        self._records.write(event.SerializeToString(deterministic=True))
        self._records.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._records.close()


def scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields tags and values of a row, such as ``loss``, ``panel/1``, and ``validation/t=0.5``."""
    for name in ("loss", "norm", "lr"):
        if row.get(name) is not None:
            yield name, float(row[name])
    for number, value in enumerate(row.get("panels", ()), start=1):
        if value >= 0:  # -1 marks a panel without measured tokens
            yield f"panel/{number}", float(value)
    for name, value in row.get("validation", {}).items():
        yield f"validation/{name}", float(value)
