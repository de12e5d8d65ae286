"""What a person sees of a running build."""

from __future__ import annotations

import io

from rich.console import Console

from iclora.cli.progress import BuildDisplay
from schemas.verdict import Tally


def shown(work):
    """The screen after some work, with a terminal of 120 columns."""
    screen = io.StringIO()
    with BuildDisplay(Console(file=screen, force_terminal=True, width=120)) as progress:
        work(progress)
    return screen.getvalue()


def test_a_stage_names_the_sources_that_it_works_on():
    def work(progress):
        progress.started("ingest", 3)
        track = progress.reports.track
        with track("ingest", "a.mp4@0123") as report, track("ingest", "b.mp4@0123"):
            report(0.345)
            with track("quality", "c.mp4@0123"):
                progress.refresh()

    text = shown(work)
    assert "0/3" in text
    assert "34% a.mp4, 0% b.mp4" in text
    assert "c.mp4" not in text, "it is of another stage"


def test_of_many_sources_the_first_are_named():
    def work(progress):
        progress.started("ingest", 9)
        track = progress.reports.track
        with track("ingest", "a.mp4"), track("ingest", "b.mp4"):
            progress.refresh()
            with track("ingest", "c.mp4"):
                progress.refresh()

    text = shown(work)
    assert "0% a.mp4, 0% b.mp4" in text
    assert "0% b.mp4, 1 more" in text
    assert "c.mp4" not in text


def test_a_finished_stage_says_what_was_kept():
    def work(progress):
        progress.started("ingest", 1)
        progress.advanced("ingest", Tally(seen=4, kept=3, rejected=1, failed=0))
        progress.finished("ingest", Tally(seen=4, kept=3, rejected=1, failed=0))

    assert "3 kept, 1 rejected, 0 failed" in shown(work)
