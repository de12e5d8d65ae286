"""Progress of a build in a terminal: one bar per stage, then the ledger."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Table
from rich.text import Text

from iclora.cli.console import printable
from iclora.pipeline.ledger import in_order
from iclora.pipeline.progress import SourceReports
from schemas.verdict import Ledger, Tally

MAX_NAMED = 2
"""Maximum number of active sources that a stage's bar names."""


class _SourcesColumn(ProgressColumn):
    """Column that names the sources a stage is working on, and the percentage done."""

    def __init__(self, reports: SourceReports) -> None:
        super().__init__()
        self._reports = reports

    def render(self, task: Task) -> Text:
        active = [item for item in self._reports.active() if item.stage == task.description]
        names = [f"{item.fraction:.0%} {printable(item.source)}" for item in active[:MAX_NAMED]]
        if len(active) > MAX_NAMED:
            names.append(f"{len(active) - MAX_NAMED} more")
        return Text(", ".join(names), overflow="ellipsis", no_wrap=True)


class BuildDisplay:
    """Draws progress on stderr; bars in a terminal, nothing but the ledger elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self.reports = SourceReports()
        self._bars = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[kept]}"),
            _SourcesColumn(self.reports),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._kept: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def refresh(self) -> None:
        """Draws now; otherwise it happens ten times per second."""
        self._bars.refresh()

    def started(self, stage: str, parts: int) -> None:
        """Adds a bar for the stage."""
        self._kept[stage] = 0
        self._tasks[stage] = self._bars.add_task(stage, total=parts, kept="")

    def advanced(self, stage: str, part: Tally) -> None:
        """Advances the stage's bar by one source."""
        self._kept[stage] += part.kept
        self._bars.update(self._tasks[stage], advance=1, kept=f"{self._kept[stage]} kept")

    def finished(self, stage: str, total: Tally) -> None:
        """Shows the stage's totals."""
        lost = f", {total.rejected} rejected, {total.failed} failed"
        self._bars.update(self._tasks[stage], kept=f"{total.kept} kept{lost}")

    def show_ledger(self, ledger: Ledger) -> None:
        """Prints the counts of every stage as a table."""
        table = Table("stage", title="ledger")
        for column in ("in", "kept", "rejected", "failed"):
            table.add_column(column, justify="right")
        for stage, total in in_order(ledger).items():
            counts = (total.seen, total.kept, total.rejected, total.failed)
            table.add_row(stage, *(str(count) for count in counts))
        self._console.print(table)
