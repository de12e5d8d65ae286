"""Every item gets exactly one verdict per stage; a ledger adds them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from schemas.base import Schema

VerdictOutcome = Literal["kept", "rejected", "failed"]

UNMEASURED = -1.0
"""Value and threshold of a verdict that is not about a number."""


class Verdict(Schema):
    """Decision of a stage about one item, with its reason."""

    stage: str
    """ingest, quality, sets, choose, stitch, caption or shard."""

    id: str
    """The item: a source's name, a frame's id or a set's key."""

    outcome: VerdictOutcome

    reason: str = ""
    """One lower_snake word for rejected and failed, such as ``near_duplicate``; empty if kept."""

    detail: str = ""
    """One sentence for a person, where the reason's word is not enough."""

    value: float = UNMEASURED
    """Measured value, rounded to four decimals before it was compared."""

    threshold: float = UNMEASURED
    """Threshold that the value was compared with."""

    source: str = ""
    """The source the item comes from."""

    @classmethod
    def kept(cls, stage: str, item: str, *, source: str = "") -> Self:
        """Keeps an item."""
        return cls(stage=stage, id=item, outcome="kept", source=source)

    @classmethod
    def rejected(
        cls,
        stage: str,
        item: str,
        reason: str,
        detail: str = "",
        *,
        value: float = UNMEASURED,
        threshold: float = UNMEASURED,
        source: str = "",
    ) -> Self:
        """Rejects a sound item that is not wanted; numbers are rounded to four decimals."""
        return cls(
            stage=stage,
            id=item,
            outcome="rejected",
            reason=reason,
            detail=detail,
            value=round(value, 4),
            threshold=round(threshold, 4),
            source=source,
        )

    @classmethod
    def failed(
        cls,
        stage: str,
        item: str,
        reason: str,
        detail: str = "",
        *,
        value: float = UNMEASURED,
        threshold: float = UNMEASURED,
        source: str = "",
    ) -> Self:
        """Fails an item that cannot be used; numbers are rounded to four decimals."""
        rejected = cls.rejected(
            stage, item, reason, detail, value=value, threshold=threshold, source=source
        )
        return rejected.model_copy(update={"outcome": "failed"})

    @model_validator(mode="after")
    def _a_refusal_has_a_reason(self) -> Self:
        if (self.outcome == "kept") == bool(self.reason):
            raise ValueError(f"{self.id}: {self.outcome} with reason {self.reason!r}")
        return self


class Tally(Schema):
    """The verdicts of one stage, added up."""

    seen: NonNegativeInt = Field(validation_alias="in", serialization_alias="in")
    kept: NonNegativeInt
    rejected: NonNegativeInt
    failed: NonNegativeInt

    @model_validator(mode="after")
    def _nothing_is_lost(self) -> Self:
        if self.seen != self.kept + self.rejected + self.failed:
            raise ValueError(
                f"{self.seen} in, but {self.kept} kept + {self.rejected} rejected "
                f"+ {self.failed} failed"
            )
        return self


Ledger = dict[str, Tally]
"""Stage name to tally, in the order of the stages."""


def tally(verdicts: Sequence[Verdict], seen: int) -> Tally:
    """Adds up one stage's verdicts against the number of items that went in.

    Raises:
        ValueError: an item has no verdict, or two.
    """
    ids = Counter(verdict.id for verdict in verdicts)
    twice = [name for name, count in ids.items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} has {ids[twice[0]]} verdicts in one stage")
    counts = Counter(verdict.outcome for verdict in verdicts)
    return Tally(
        seen=seen, kept=counts["kept"], rejected=counts["rejected"], failed=counts["failed"]
    )


def add_tallies(tallies: Iterable[Tally]) -> Tally:
    """Sums the tallies of a stage's parts (its sources, its batches)."""
    parts = list(tallies)
    return Tally(
        seen=sum(part.seen for part in parts),
        kept=sum(part.kept for part in parts),
        rejected=sum(part.rejected for part in parts),
        failed=sum(part.failed for part in parts),
    )
