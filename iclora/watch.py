"""What a build that is under way has done: stages are added up while their parts end.

Apart from ``iclora.build`` because it needs none of the rooms: who only watches imports nothing
heavy.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Protocol

from iclora.shards.ledger import add_up, stop_if_failing
from iclora.stages import result_of
from iclora.store import Store
from schemas.stage import (
    Captioned,
    Chosen,
    Formed,
    Ingested,
    Scored,
    StageRef,
    Stitched,
)
from schemas.verdict import Tally, Verdict, add_tallies

RESULTS = {
    "ingest": Ingested,
    "quality": Scored,
    "sets": Formed,
    "choose": Chosen,
    "stitch": Stitched,
    "caption": Captioned,
}


class Progress(Protocol):
    """Hears how a build goes; called by one thread at a time."""

    def started(self, stage: str, parts: int) -> None:
        """There will be a stage of this many parts (sources)."""

    def advanced(self, stage: str, part: Tally) -> None:
        """One part of a stage is done, or was done already."""

    def finished(self, stage: str, total: Tally) -> None:
        """All parts are done."""


class Quiet:
    """A progress that does nothing."""

    def started(self, stage: str, parts: int) -> None:
        """Nothing."""

    def advanced(self, stage: str, part: Tally) -> None:
        """Nothing."""

    def finished(self, stage: str, total: Tally) -> None:
        """Nothing."""


class Watch:
    """Adds up stages while their parts are done, and stops a build that mostly fails."""

    def __init__(self, store: Store, share: float, progress: Progress) -> None:
        self._store = store
        self._share = share
        self._progress = progress
        self._lock = Lock()
        self._parts: dict[str, int] = {}
        self._tallies: dict[str, list[Tally]] = {}
        self._failed: dict[str, list[Verdict]] = {}

    def expect(self, parts: int, *stages: str) -> None:
        """Says how many parts stages will have."""
        for stage in stages:
            self._parts[stage], self._tallies[stage], self._failed[stage] = parts, [], []
            self._progress.started(stage, parts)

    def done(self, ref: StageRef) -> StageRef:
        """Counts a finished part of a stage; returns it."""
        result = result_of(self._store, ref, RESULTS[ref.stage])
        self.count(ref.stage, result.verdicts, result.seen)
        return ref

    def count(self, stage: str, verdicts: Sequence[Verdict], seen: int) -> None:
        """Counts the verdicts of one part of a stage.

        Raises:
            BuildStopped: they do not add up, or too large a share of the stage failed.
            BadInput: not one source could be read.
        """
        part = add_up(stage, verdicts, seen)
        with self._lock:
            self._tallies[stage].append(part)
            self._failed[stage] += [v for v in verdicts if v.outcome == "failed"]
            self._progress.advanced(stage, part)
            if len(self._tallies[stage]) == self._parts[stage]:
                total = add_tallies(self._tallies[stage])
                self._progress.finished(stage, total)
                stop_if_failing(stage, self._failed[stage], total, self._share)
