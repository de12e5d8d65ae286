"""What a reader of a source is given, and what it finds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from iclora.errors import BadInput
from iclora.pipeline.progress import Report, ignore_progress
from schemas.base import digest_of
from schemas.frame import Frame, ImageSet
from schemas.ingest import IngestParams
from schemas.layout import Layout
from schemas.source import Source
from schemas.verdict import UNMEASURED, Verdict

FRAMES = "frames"
"""The sub-folder of an ingest stage that holds the pictures."""


class UnreadableInput(BadInput):
    """Something that cannot be ingested; carries the reason its verdict will name."""

    def __init__(
        self, reason: str, detail: str, value: float = UNMEASURED, threshold: float = UNMEASURED
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.value = value
        self.threshold = threshold


@dataclass(frozen=True)
class IngestContext:
    """Everything a reader needs to know.

    Attributes:
        source: what is read.
        params: of ingest.
        layout: of canvases that are stitched already.
        folder: the stage's; pictures go into its ``frames``.
        id_counts: how often each item was met, so that every one has an id of its own.
        say: is told how much of the source was read.
    """

    source: Source
    params: IngestParams
    layout: Layout
    folder: Path
    id_counts: Counter[str] = field(default_factory=Counter)
    say: Report = ignore_progress

    def unique_id(self, item: str) -> str:
        """The item's id the first time, with a number after it from then on."""
        self.id_counts[item] += 1
        return item if self.id_counts[item] == 1 else f"{item}-{self.id_counts[item]}"

    def part(self, number: int, of: int) -> IngestContext:
        """For reading one of several parts of the source, which are taken to be of one size."""

        def report(share: float) -> None:
            self.say((number + share) / of)

        return replace(self, say=report)

    @cached_property
    def frames_folder(self) -> Path:
        """Where pictures are put; there from the first time it is asked for."""
        folder = self.folder / FRAMES
        folder.mkdir(exist_ok=True)
        return folder

    def kept(self, item: str) -> Verdict:
        """The verdict on an item that goes on."""
        return Verdict(stage="ingest", id=item, outcome="kept", source=self.source.name)

    def failed(self, item: str, why: UnreadableInput) -> Verdict:
        """The verdict on an item that could not be used."""
        return Verdict(
            stage="ingest",
            id=item,
            outcome="failed",
            reason=why.reason,
            detail=str(why),
            value=round(why.value, 4),
            threshold=round(why.threshold, 4),
            source=self.source.name,
        )

    def rejected(self, item: str, reason: str, detail: str = "") -> Verdict:
        """The verdict on an item that is sound but not wanted."""
        return Verdict(
            stage="ingest",
            id=item,
            outcome="rejected",
            reason=reason,
            detail=detail,
            source=self.source.name,
        )


class IngestResult(NamedTuple):
    """What a reader found: one verdict per item."""

    frames: tuple[Frame, ...] = ()
    given: tuple[ImageSet, ...] = ()
    verdicts: tuple[Verdict, ...] = ()

    def __add__(self, other: object) -> IngestResult:
        """Both, one after the other."""
        assert isinstance(other, IngestResult)
        return IngestResult(
            self.frames + other.frames, self.given + other.given, self.verdicts + other.verdicts
        )


def set_key(frames: tuple[Frame, ...]) -> str:
    """The key of a set of frames: the digest of their ids."""
    return digest_of([frame.id for frame in frames])
