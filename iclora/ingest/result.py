"""Inputs and outputs shared by all source readers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from iclora.errors import BadInput
from iclora.pipeline.progress import Report, ignore_progress
from schemas.frame import Frame, ImageSet
from schemas.ingest import IngestStageParams
from schemas.source import Source
from schemas.verdict import UNMEASURED, Verdict

FRAMES = "frames"
"""Subfolder of an ingest stage that contains the pictures."""


class UnreadableInput(BadInput):
    """An input that cannot be ingested; carries the reason for its verdict."""

    def __init__(
        self, reason: str, detail: str, value: float = UNMEASURED, threshold: float = UNMEASURED
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.value = value
        self.threshold = threshold

    def verdict(self, stage: str, item: str, source: str) -> Verdict:
        """Creates the ``failed`` verdict for the item."""
        return Verdict.failed(
            stage,
            item,
            self.reason,
            str(self),
            value=self.value,
            threshold=self.threshold,
            source=source,
        )


@dataclass(frozen=True)
class IngestContext:
    """Source, parameters and output folder for one reader.

    Attributes:
        source: Source to read.
        params: Parameters of the stage.
        folder: Stage folder; pictures are stored in its ``frames`` subfolder.
        work: Folder for copies of remote sources.
        id_counts: Number of occurrences per item, used to make ids unique.
        report: Callback for the fraction of the source read so far.
    """

    source: Source
    params: IngestStageParams
    folder: Path
    work: Path
    id_counts: Counter[str] = field(default_factory=Counter)
    report: Report = ignore_progress

    def unique_id(self, item: str) -> str:
        """Returns the item id, with a counter appended from its second occurrence on."""
        self.id_counts[item] += 1
        return item if self.id_counts[item] == 1 else f"{item}-{self.id_counts[item]}"

    def part(self, number: int, of: int) -> IngestContext:
        """Returns a context for one of ``of`` parts of the source; progress assumes equal sizes."""

        def report(share: float) -> None:
            self.report((number + share) / of)

        return replace(self, report=report)

    @cached_property
    def frames_folder(self) -> Path:
        """Returns the folder for pictures; creates it on first access."""
        folder = self.folder / FRAMES
        folder.mkdir(exist_ok=True)
        return folder

    def kept(self, item: str) -> Verdict:
        """Creates the verdict for an accepted item."""
        return Verdict.kept("ingest", item, source=self.source.name)

    def failed(self, item: str, why: UnreadableInput) -> Verdict:
        """Creates the verdict for an unusable item."""
        return why.verdict("ingest", item, self.source.name)

    def rejected(self, item: str, reason: str, detail: str = "") -> Verdict:
        """Creates the verdict for a valid item excluded by a policy."""
        return Verdict.rejected("ingest", item, reason, detail, source=self.source.name)


class IngestResult(NamedTuple):
    """The frames, pre-stitched sets and verdicts from one reader, with one verdict per item."""

    frames: tuple[Frame, ...] = ()
    given: tuple[ImageSet, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    def __add__(self, other: object) -> IngestResult:
        """Concatenates two results."""
        assert isinstance(other, IngestResult)
        return IngestResult(
            self.frames + other.frames, self.given + other.given, self.verdicts + other.verdicts
        )
