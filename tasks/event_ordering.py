"""Ordering of the server's events without waiting for events that will never come.

Prefect's server holds an event back, for up to 15 minutes, until it has seen the one that it
follows, and remembers what it has seen in memory only. The end of a run would be late after a
restart of the server, and for scheduled runs, whose Scheduled state is no event. ``make up`` sets
this module as ``PREFECT_SERVER_EVENTS_CAUSAL_ORDERING``.
"""

from __future__ import annotations

import time
from uuid import UUID

from prefect.server.events.ordering import memory
from prefect.server.events.schemas.events import ReceivedEvent

FIRST = "prefect.flow-run.Pending"
"""First event that every run on a worker surely has."""

_START = time.time()
"""Time at which this server began to listen, in seconds since 1970."""


class CausalOrdering(memory.CausalOrdering):
    """Prefect's ordering, without the wait for events from before the server's start."""

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Returns when the event may be handled.

        Raises:
            EventArrivedEarly: not yet; it is handled after the one that it follows.
        """
        if event.event == FIRST:
            return
        if event.follows and made_at(event.follows) < _START:
            return
        await super().wait_for_leader(event)


def made_at(event: UUID) -> float:
    """Reads the time in an event's id, in seconds since 1970; infinite without one."""
    # Ids of version 7 begin with their time in milliseconds.
    is_timed = event.version == 7  # noqa: PLR2004 - the version of UUIDs that begin with their time
    return int.from_bytes(event.bytes[:6]) / 1000 if is_timed else float("inf")
