"""A build as a person watches it: a line a stage, then the ledger."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from iclora.shards.ledger import in_order
from schemas.verdict import Ledger, Tally


class BuildProgress:
    """Draws progress on stderr; bars in a terminal, nothing but the ledger elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[kept]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._kept: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def started(self, stage: str, parts: int) -> None:
        """A bar for the stage."""
        self._kept[stage] = 0
        self._tasks[stage] = self._bars.add_task(stage, total=parts, kept="")

    def advanced(self, stage: str, part: Tally) -> None:
        """One source further."""
        self._kept[stage] += part.kept
        self._bars.update(self._tasks[stage], advance=1, kept=f"{self._kept[stage]} kept")

    def finished(self, stage: str, total: Tally) -> None:
        """The stage's sum."""
        lost = f", {total.rejected} rejected, {total.failed} failed"
        self._bars.update(self._tasks[stage], kept=f"{total.kept} kept{lost}")

    def show_ledger(self, ledger: Ledger) -> None:
        """Prints what went in and what became of it, stage by stage."""
        table = Table("stage", title="ledger")
        for column in ("in", "kept", "rejected", "failed"):
            table.add_column(column, justify="right")
        for stage, total in in_order(ledger).items():
            counts = (total.seen, total.kept, total.rejected, total.failed)
            table.add_row(stage, *(str(count) for count in counts))
        self._console.print(table)
