"""A build under way: one at a time for a dataset's name, and to be watched in the UI.

What is shown is read from what stages left in the store, so it says the same whether sources are
worked on by threads here or by machines elsewhere.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

from prefect.futures import PrefectFuture

from iclora.locks import only_one
from iclora.models.usage import spent
from iclora.shards.ledger import STAGES, add_up
from iclora.stages import result_of
from iclora.store import Store
from iclora.underway import parts_underway
from iclora.watch import RESULTS
from schemas.job import BuildJob, Parcel
from schemas.stage import StageRef
from schemas.verdict import Tally, Verdict, add_tallies
from tasks.devices import gpu_hours
from tasks.live import Live, updating
from tasks.names import run_name

Futures = TypeVar("Futures", bound=Sequence[PrefectFuture[list[StageRef]]])

MAPPED = ("ingest", "quality", "sets", "stitch", "caption")
"""The stages that have a part per source."""

SAID = {
    "sources": "Sources given",
    "ingest": "Frames cut from shots",
    "quality": "Frames measured",
    "sets": "Frames grouped into sets",
    "choose": "Best sets chosen",
    "stitch": "Sets stitched",
    "caption": "Canvases captioned",
}
"""A stage in plain words, for its table's card in the UI, which shows some thirty characters."""

READ = ("ingest", "quality")
"""The stages that say how far they are with a source."""

NAMED = 4
"""Sources in work that are named."""

ROWS = 100
"""Sources in a stage's table; those that lost most come first."""


class Part(NamedTuple):
    """What a stage made of one source, or of the whole build."""

    source: str
    tally: Tally
    reasons: Mapping[str, int]


class BuildWatch:
    """Sees stages end, and shows the sum.

    Args:
        job: the build.
    """

    def __init__(self, job: BuildJob) -> None:
        self._job, self._store = job, Store(job.setup.store)
        self._began = time.monotonic()
        self._heard: deque[tuple[str, StageRef]] = deque()
        self._ended = 0
        self._share = 0.0
        self._parts: dict[str, list[Part]] = {}
        self._progress = Live("progress", f"build-{job.setup.name}")
        self._tables: dict[str, Live] = {}
        self._note("sources", "given", job.refused, len(job.refused))

    def __call__(self, futures: Futures) -> Futures:
        """Watches a stage's task runs, one a parcel; returns them.

        Parts are of sources, and are heard of when their parcel ends.
        """
        for parcel, future in zip(self._job.parcels, futures, strict=True):
            future.add_done_callback(partial(self._end, parcel))
        return futures

    def whole(self, ref: StageRef) -> StageRef:
        """Counts a stage of the whole build; returns it."""
        self._heard.append(("all sources", ref))
        self._ended += 1
        return ref

    def _end(self, parcel: Parcel, future: PrefectFuture[list[StageRef]]) -> None:
        result: Any = future.result(raise_on_failure=False)
        if isinstance(result, list):  # and not the error that it failed with
            names = [source.name for source in parcel.sources]
            self._heard.extend(zip(names, result, strict=True))
        self._ended += len(parcel.sources)

    def show(self) -> None:
        """Brings the artifacts up to date."""
        while self._heard:
            source, ref = self._heard.popleft()
            result: Any = result_of(self._store, ref, RESULTS[ref.stage])
            self._note(ref.stage, source, result.verdicts, result.seen)
        for stage, parts in self._parts.items():
            of = len(self._job.sources) if stage in MAPPED else 1
            table = self._tables.setdefault(stage, Live("table", f"{stage}-{self._job.setup.name}"))
            table.show(rows(parts), f"{SAID[stage]}: {len(parts)} of {of} parts done")
        said = f"Build so far: {self.sentence()}"
        self._progress.show(round(100 * self.share(), 1), said)

    def share(self) -> float:
        """How much of the build is done, 0-1: parts of stages, each counted alike.

        Sources in work here count for what of them is read; not for captions, because some are
        written ahead, which is no part. It never falls, although a parcel's sources are counted
        for good only together.
        """
        parts = sum(part.share for part in parts_underway() if part.stage in READ)
        share = (self._ended + parts) / (len(MAPPED) * len(self._job.sources) + 1)
        self._share = max(self._share, min(1.0, share))
        return self._share

    def sentence(self) -> str:
        """Where the build stands, in a line."""
        elapsed, share, tokens = time.monotonic() - self._began, self.share(), spent()
        pieces = [
            f"{stage} {_said(add_tallies(part.tally for part in self._parts[stage]))}"
            for stage in STAGES
            if stage in self._parts
        ]
        if 0 < share < 1:
            left = timedelta(seconds=round(elapsed / share * (1 - share)))
            pieces.append(f"about {left} left")
        if parts := parts_underway():
            said = [f"{part.stage} {part.source} {part.share:.0%}" for part in parts[:NAMED]]
            pieces.append("now " + ", ".join(said))
        if tokens.asked:
            pieces.append(f"captioner: {tokens.read} tokens read, {tokens.written} written")
        return "; ".join([*pieces, gpu_hours(elapsed)])

    def _note(self, stage: str, source: str, verdicts: Iterable[Verdict], seen: int) -> None:
        judged = list(verdicts)
        reasons = Counter(verdict.reason for verdict in judged if verdict.reason)
        part = Part(source, add_up(stage, judged, seen), reasons)
        self._parts.setdefault(stage, []).append(part)


@contextmanager
def watch_build(job: BuildJob) -> Generator[BuildWatch]:
    """Waits until no other build of this name runs on this machine; shows this one while it runs.

    The turn is a lock on a file in the store's work folder: unlike a deployment's limit it holds
    no lease with the server, so a restart of the server cannot end a long build.
    """
    file = Store(job.setup.store).work / "locks" / f"build-{job.setup.name}.lock"
    with only_one(file, f"the build of {job.setup.name}", run_name()):
        watch = BuildWatch(job)
        with updating(watch.show):
            yield watch


def rows(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """A stage's table: the sum, then the sources, most rejected and failed first."""
    parts = list(parts)
    reasons: Counter[str] = Counter()
    for part in parts:
        reasons.update(part.reasons)
    total = Part("all", add_tallies(part.tally for part in parts), reasons)
    lossy = sorted(parts, key=lambda part: (part.tally.kept - part.tally.seen, part.source))
    return [_row(part) for part in (total, *lossy[:ROWS])]


def _row(part: Part) -> dict[str, Any]:
    why = ", ".join(f"{reason} {count}" for reason, count in Counter(part.reasons).most_common())
    return {"source": part.source, **part.tally.to_json(), "reasons": why}


def _said(total: Tally) -> str:
    words = [f"{total.kept} kept"]
    words += [f"{total.rejected} rejected"] if total.rejected else []
    words += [f"{total.failed} failed"] if total.failed else []
    return ", ".join(words)
