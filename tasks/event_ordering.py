"""Events do not wait for others that will never come.

Prefect's server holds an event back until it has seen the one that it follows, for a quarter of an
hour at most, and what it has seen it keeps in memory. So the end of a run would be told a quarter
of an hour late when the server was restarted since the run began, and when the run is one of a
schedule, made shortly before: of those nobody tells that they are Scheduled. Prefect takes a module
of one's own here (``PREFECT_SERVER_EVENTS_CAUSAL_ORDERING``), which ``make up`` sets.
"""

from __future__ import annotations

import time
from uuid import UUID

from prefect.server.events.ordering import memory
from prefect.server.events.schemas.events import ReceivedEvent

_LOADED = time.time()
"""Time at which this server began to listen, in seconds since 1970."""

FIRST = "prefect.flow-run.Pending"
"""The first that is surely told of a run that a worker takes up."""

_TIMED = 7
"""The version of ids that begin with the time of their making."""


class CausalOrdering(memory.CausalOrdering):
    """Prefect's own, without the wait for events that nobody remembers."""

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Returns when the event may be handled.

        Raises:
            EventArrivedEarly: not yet; it is handled after the one that it follows.
        """
        if event.event == FIRST:
            return
        if event.follows and made_at(event.follows) < _LOADED:
            return
        await super().wait_for_leader(event)


def made_at(event: UUID) -> float:
    """Reads the time of an event's id, in seconds since 1970; infinite without one."""
    if event.version != _TIMED:
        return float("inf")
    return int.from_bytes(event.bytes[:6]) / 1000
