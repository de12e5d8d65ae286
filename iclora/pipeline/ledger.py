"""The ledger: every item that enters a stage leaves it kept, rejected or failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from iclora.errors import BadInput, BuildStopped
from schemas.stage import Captioned, Chosen, Formed, Ingested, Scored, Stitched
from schemas.verdict import Ledger, Tally, Verdict, tally

StageResult = Ingested | Scored | Formed | Chosen | Stitched | Captioned

RESULTS: Final[Mapping[str, type[StageResult]]] = MappingProxyType(
    {
        "ingest": Ingested,
        "quality": Scored,
        "sets": Formed,
        "choose": Chosen,
        "stitch": Stitched,
        "caption": Captioned,
    }
)
"""Stages with a manifest, in order, and the schema of each manifest."""

STAGES: Final = ("sources", *RESULTS, "shard")
"""Rows of the ledger, in order."""


def add_up(stage: str, verdicts: Sequence[Verdict], seen: int) -> Tally:
    """Counts the verdicts of one part of a stage.

    Raises:
        BuildStopped: an item has no verdict, or two.
    """
    try:
        return tally(verdicts, seen)
    except ValueError as error:
        raise BuildStopped(f"the ledger of stage {stage} does not add up: {error}") from error


def in_order(ledger: Ledger) -> Ledger:
    """Orders the rows by stage; a manifest sorts them by name."""
    return {stage: ledger[stage] for stage in STAGES if stage in ledger}


def stop_if_failing(
    stage: str, verdicts: Sequence[Verdict], total: Tally, max_failed: float
) -> None:
    """Stops a build when too much of a stage failed.

    Args:
        stage: name of the stage.
        verdicts: the stage's verdicts; the failed ones are named in the message.
        total: tally of the whole stage.
        max_failed: largest share of the items that may fail, 0 to 1 (``ingest.max_failed_share``).

    Raises:
        BadInput: every source failed.
        BuildStopped: more than ``max_failed`` of the items failed.
    """
    if total.failed <= max_failed * total.seen:
        return
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    counts = Counter(verdict.reason for verdict in failed).most_common()
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
    first = f"{failed[0].id}: {failed[0].detail or failed[0].reason}"
    if stage in {"sources", "ingest"} and total.failed == total.seen:
        raise BadInput(f"nothing could be read ({reasons}); first {first}")
    raise BuildStopped(
        f"stage {stage}: {total.failed} of {total.seen} failed ({reasons}), more than "
        f"ingest.max_failed_share = {max_failed}; first {first}"
    )
