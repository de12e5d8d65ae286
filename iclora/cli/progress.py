"""A build as a person watches it: a line a stage, then the ledger."""

from __future__ import annotations

from types import TracebackType
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
"""Sources in work that a stage's line names."""


class _SourcesColumn(ProgressColumn):
    """Column that names the sources a stage is working on, and the percentage done."""

    def __init__(self, reports: SourceReports) -> None:
        super().__init__()
        self._reports = reports

    def render(self, task: Task) -> Text:
        active = [one for one in self._reports.active() if one.stage == task.description]
        names = [f"{one.fraction:.0%} {printable(one.source)}" for one in active[:MAX_NAMED]]
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def refresh(self) -> None:
        """Draws now; by itself this happens ten times a second."""
        self._bars.refresh()

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
