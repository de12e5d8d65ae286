"""Progress of a build: tallies of its stages, and how far sources in progress are.

The pipeline counts what is done here, whoever does it. Sources in progress report from wherever
they are worked on: ``SourceReports`` in this process, ``SharedReports`` through the store.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, Protocol, Self
from uuid import uuid4

from iclora.errors import IcloraError
from iclora.pipeline.ledger import RESULTS, add_up, stop_if_failing
from iclora.pipeline.stage import result_of
from iclora.store import Store
from schemas.stage import StageRef
from schemas.verdict import Tally, Verdict, add_tallies

Report = Callable[[float], None]
"""Callback that takes the fraction done, 0 to 1."""


def ignore_progress(_fraction: float) -> None:
    """Ignores the fraction; the default of functions that take a ``Report``."""


class SourceProgress(NamedTuple):
    """A source that a stage is working on."""

    stage: str
    source: str
    """Display name, without the digest."""

    fraction: float = 0.0

    @classmethod
    def of(cls, stage: str, source: str, fraction: float) -> Self:
        """Takes a source's name with or without its digest, and clamps the fraction to 0 to 1."""
        return cls(stage, source.rpartition("@")[0] or source, min(1.0, max(0.0, fraction)))


class Listener(Protocol):
    """Receives the progress of a build, from one thread."""

    def started(self, stage: str, parts: int) -> None:
        """Announces a stage of this many parts (sources)."""

    def advanced(self, stage: str, part: Tally) -> None:
        """Receives the tally of one finished part."""

    def finished(self, stage: str, total: Tally) -> None:
        """Receives the tally of a finished stage."""


class SourceShare(NamedTuple):
    """Outcome of one stage for one source, or for the whole build."""

    source: str
    tally: Tally
    reasons: Mapping[str, int]


class BuildProgress:
    """Adds up the stages of a build and stops a build that mostly fails.

    Args:
        store: store of the stages.
        max_failed: largest share of a stage's items that may fail.
        listener: receives the progress.
    """

    def __init__(self, store: Store, max_failed: float, listener: Listener | None = None) -> None:
        self._store = store
        self._max_failed = max_failed
        self._listener = listener
        self._expected: dict[str, int] = {}
        self._failed: dict[str, list[Verdict]] = {}
        self.parts: dict[str, list[SourceShare]] = {}
        """Finished parts of each stage that has begun."""

    def expect(self, parts: int, *stages: str) -> None:
        """Sets the number of parts of stages."""
        for stage in stages:
            self._expected[stage] = parts
            if self._listener:
                self._listener.started(stage, parts)

    def record(self, source: str, *refs: StageRef) -> None:
        """Counts finished stages of one source, or of the whole build."""
        for ref in refs:
            result = result_of(self._store, ref, RESULTS[ref.stage])
            self.count(ref.stage, source, result.verdicts, result.seen)

    def count(self, stage: str, source: str, verdicts: Sequence[Verdict], seen: int) -> None:
        """Counts the verdicts of one part of a stage.

        Raises:
            BuildStopped: they do not add up, or too large a share of the stage failed.
            BadInput: every source failed.
        """
        tally = add_up(stage, verdicts, seen)
        reasons = Counter(verdict.reason for verdict in verdicts if verdict.reason)
        parts = self.parts.setdefault(stage, [])
        parts.append(SourceShare(source, tally, reasons))
        failed = self._failed.setdefault(stage, [])
        failed += [verdict for verdict in verdicts if verdict.outcome == "failed"]
        if self._listener:
            self._listener.advanced(stage, tally)
        if len(parts) == self._expected[stage]:
            total = add_tallies(part.tally for part in parts)
            if self._listener:
                self._listener.finished(stage, total)
            stop_if_failing(stage, failed, total, self._max_failed)

    def done(self, in_progress: float = 0.0) -> float:
        """Computes the fraction of the build's parts that are done, 0 to 1.

        Args:
            in_progress: sum of the fractions of the parts in progress.
        """
        finished = sum(len(parts) for parts in self.parts.values())
        return min(1.0, (finished + in_progress) / max(1, sum(self._expected.values())))

    def expected(self, stage: str) -> int:
        """Returns the number of parts of a stage."""
        return self._expected[stage]


class SourceReports:
    """Sources in progress in this process."""

    def __init__(self) -> None:
        self._active: dict[object, SourceProgress] = {}

    @contextmanager
    def track(self, stage: str, source: str) -> Generator[Report]:
        """Shows a source as in progress while the block runs.

        Args:
            stage: name of the stage.
            source: name, with or without its digest.

        Yields:
            The callback for the fraction done.
        """
        key = object()

        def report(fraction: float) -> None:
            self._active[key] = SourceProgress.of(stage, source, fraction)

        report(0.0)
        try:
            yield report
        finally:
            del self._active[key]

    def active(self) -> list[SourceProgress]:
        """Returns the sources in progress, oldest first."""
        return list(self._active.values())


class SharedReports:
    """Sources in progress in any process that reaches the store: a small file each.

    Args:
        store: store of the build.
        run: identifies the build; the files lie in ``progress/<run>/``.
    """

    PAUSE: Final = 2.0
    """Seconds between two writes of one source's file; sources that take less are not shown."""

    REMOTE_PAUSE: Final = 10.0
    """The same on an object store, where every write is a request."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._folder = f"progress/{run}"
        self._pause = self.PAUSE if store.is_local else self.REMOTE_PAUSE

    @contextmanager
    def track(self, stage: str, source: str) -> Generator[Report]:
        """Shows a source as in progress while the block runs."""
        file = f"{self._folder}/{time.time_ns():020d}-{uuid4().hex}.json"
        is_written, last = False, time.monotonic()

        def report(fraction: float) -> None:
            nonlocal is_written, last
            if time.monotonic() - last < self._pause:
                return
            is_written, last = True, time.monotonic()
            progress = SourceProgress.of(stage, source, fraction)
            with suppress(OSError, IcloraError):  # showing progress never fails the work
                self._store.write(file, json.dumps(progress).encode())

        try:
            yield report
        finally:
            if is_written:
                with suppress(OSError, IcloraError):
                    self._store.remove(file)

    def active(self) -> list[SourceProgress]:
        """Returns the sources in progress, oldest first."""
        active: list[SourceProgress] = []
        for name in sorted(self._store.listdir(self._folder)):
            # A file that is gone, or another version's, is skipped.
            with suppress(OSError, IcloraError, ValueError, TypeError):
                data = self._store.read(f"{self._folder}/{name}")
                active.append(SourceProgress(*json.loads(data)))
        return active

    def clear(self) -> None:
        """Removes what killed workers left behind."""
        self._store.remove(self._folder)


Reports = SourceReports | SharedReports
"""Sources in progress."""
