"""The ledger: every item that goes into a stage comes out of it kept, rejected or failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from iclora.errors import BadInput, BuildStopped
from schemas.verdict import Ledger, Tally, Verdict, tally

STAGES = ("sources", "ingest", "quality", "sets", "choose", "stitch", "caption", "shard")
"""The rows of the ledger, in order."""


def add_up(stage: str, verdicts: Sequence[Verdict], seen: int) -> Tally:
    """The tally of one part of a stage.

    Raises:
        BuildStopped: an item has no verdict, or two.
    """
    try:
        return tally(verdicts, seen)
    except ValueError as error:
        raise BuildStopped(f"the ledger of stage {stage} does not add up: {error}") from error


def in_order(ledger: Ledger) -> Ledger:
    """The ledger with its rows in the order of the stages (a file sorts them by name)."""
    return {stage: ledger[stage] for stage in STAGES if stage in ledger}


def stop_if_failing(stage: str, verdicts: Sequence[Verdict], total: Tally, share: float) -> None:
    """Stops a build when too much of a stage failed.

    Args:
        stage: its name.
        verdicts: those that say failed, for the message.
        total: of the whole stage.
        share: the largest share of the items that may fail (``ingest.max_failed``).

    Raises:
        BadInput: not one of the sources could be read: they are what is wrong.
        BuildStopped: more than ``share`` of the items failed.
    """
    if total.failed <= share * total.seen:
        return
    failed = [verdict for verdict in verdicts if verdict.outcome == "failed"]
    counts = Counter(verdict.reason for verdict in failed).most_common()
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
    first = f"{failed[0].id}: {failed[0].detail or failed[0].reason}"
    if stage in {"sources", "ingest"} and total.failed == total.seen:
        raise BadInput(f"nothing could be read ({reasons}); first {first}")
    raise BuildStopped(
        f"stage {stage}: {total.failed} of {total.seen} failed ({reasons}), more than "
        f"ingest.max_failed = {share}; first {first}"
    )
