"""Progress of a training: a bar in a terminal, some lines elsewhere."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from iclora.cli.console import print_note

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.training import StepReport

NOTES = 20
"""Approximate number of lines per run outside a terminal."""


def facts(report: StepReport) -> str:
    """Formats loss, tokens/s, HFU, peak memory and the time left; a dash where unknown."""
    hfu = f"{report.utilisation:.0%}" if report.utilisation >= 0 else "-"
    memory = f"{report.memory:.1f} GiB" if report.memory >= 0 else "-"
    left = timedelta(seconds=round(report.seconds_left))
    return (
        f"loss {report.loss:.4f}  {report.tokens_per_second:.0f} tokens/s  "
        f"HFU {hfu}  VRAM {memory}  ETA {left}"
    )


@contextmanager
def train_progress() -> Generator[Callable[[StepReport], None]]:
    """Yields a function to call after every step; draws on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _print_some
        return
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=console) as bar:
        task: TaskID = bar.add_task("training", total=None, facts="")

        def draw(report: StepReport) -> None:
            bar.update(task, completed=report.step, total=report.steps, facts=facts(report))

        yield draw


def _print_some(report: StepReport) -> None:
    """Prints a line now and then; that of the first step shows that it runs."""
    interval = max(1, report.steps // NOTES)
    if report.step == 1 or report.step % interval == 0 or report.step == report.steps:
        print_note(f"step {report.step}/{report.steps}  {facts(report)}")
