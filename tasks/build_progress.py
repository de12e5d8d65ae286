"""Artifacts that show a build while it runs: a table per stage and the share that is done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from iclora.models.tokens import token_usage
from iclora.pipeline.ledger import STAGES
from iclora.pipeline.progress import BuildProgress, SharedReports, SourceShare
from iclora.store import Store
from schemas.job import BuildJob
from schemas.verdict import add_tallies
from tasks.artifacts import LiveArtifact, updating
from tasks.gpu_locks import gpu_hours

TITLES = {
    "sources": "Sources given",
    "ingest": "Frames cut from shots",
    "quality": "Frames measured",
    "sets": "Frames grouped into sets",
    "choose": "Best sets chosen",
    "stitch": "Sets stitched",
    "caption": "Canvases captioned",
}
"""Title of each stage's table; its card in the UI shows some thirty characters."""

READ = ("ingest", "quality")
"""Stages whose sources in progress count for the share done. Captions do not: some are written
early, which is no part."""

NAMED = 4
"""Number of sources in progress that are named."""

ROWS = 100
"""Sources in a stage's table; those that lost most come first."""


class BuildArtifacts:
    """Artifacts of a running build."""

    def __init__(self, job: BuildJob) -> None:
        store = Store(job.store)
        self.progress = BuildProgress(store, job.config.ingest.max_failed_share)
        self.reports = SharedReports(store, job.setup.run)
        self._name = job.name
        self._began = time.monotonic()
        self._share = 0.0
        self._bar = LiveArtifact("progress", f"build-{job.name}")
        self._tables: dict[str, LiveArtifact] = {}

    def show(self) -> None:
        """Updates the artifacts."""
        for stage, parts in list(self.progress.parts.items()):
            table = self._tables.setdefault(stage, LiveArtifact("table", f"{stage}-{self._name}"))
            expected = self.progress.expected(stage)
            table.show(rows(parts), f"{TITLES[stage]}: {len(parts)} of {expected} parts done")
        description = f"Build so far: {self.sentence()}"
        self._bar.show(round(100 * self.share(), 1), description)

    def share(self) -> float:
        """Fraction of the build that is done, 0 to 1: parts of stages, each counted alike.

        Sources in progress count for what of them is read. The fraction never falls, although the
        sources of a batch are counted for good only together.
        """
        reading = sum(item.fraction for item in self.reports.active() if item.stage in READ)
        share = self.progress.done(reading)
        self._share = max(self._share, share)
        return self._share

    def sentence(self) -> str:
        """Describes where the build stands."""
        elapsed, share, tokens = time.monotonic() - self._began, self.share(), token_usage()
        pieces: list[str] = []
        for stage in STAGES:
            if stage in self.progress.parts:
                total = add_tallies(part.tally for part in self.progress.parts[stage])
                counts = {"rejected": total.rejected, "failed": total.failed}
                losses = [f"{count} {outcome}" for outcome, count in counts.items() if count]
                pieces.append(", ".join([f"{stage} {total.kept} kept", *losses]))
        if 0 < share < 1:
            left = timedelta(seconds=round(elapsed / share * (1 - share)))
            pieces.append(f"about {left} left")
        if active := self.reports.active():
            named = [f"{item.stage} {item.source} {item.fraction:.0%}" for item in active[:NAMED]]
            pieces.append("now " + ", ".join(named))
        if tokens.asked:
            pieces.append(f"captioner: {tokens.read} tokens read, {tokens.written} written")
        return "; ".join([*pieces, gpu_hours(elapsed)])


@contextmanager
def show_progress(job: BuildJob) -> Generator[BuildProgress]:
    """Shows a build while the block runs; yields its progress."""
    artifacts = BuildArtifacts(job)
    artifacts.reports.clear()  # of a run that was killed
    try:
        with updating(artifacts.show):
            yield artifacts.progress
    finally:
        artifacts.reports.clear()


def rows(parts: Iterable[SourceShare]) -> list[dict[str, Any]]:
    """Returns a stage's table: the sum, then the sources, most rejected and failed first."""
    parts = list(parts)
    reasons: Counter[str] = Counter()
    for part in parts:
        reasons.update(part.reasons)
    total = SourceShare("all", add_tallies(part.tally for part in parts), reasons)
    lossy = sorted(parts, key=lambda part: (part.tally.kept - part.tally.seen, part.source))
    table: list[dict[str, Any]] = []
    for part in (total, *lossy[:ROWS]):
        counts = Counter(part.reasons).most_common()
        text = ", ".join(f"{reason} {count}" for reason, count in counts)
        table.append({"source": part.source, **part.tally.to_json(), "reasons": text})
    return table
