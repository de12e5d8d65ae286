"""What a restarted server does with events that follow what nobody remembers."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prefect.server.events.ordering import EventArrivedEarly
from prefect.server.events.schemas.events import ReceivedEvent

from tasks.event_ordering import FIRST, CausalOrdering, made_at


def id_of(seconds: float) -> UUID:
    """An id as Prefect makes them: the time of its making in front."""
    time_of = round(seconds * 1000).to_bytes(6)
    return UUID(bytes=time_of + b"\x70" + bytes([0, 0x80, 0]) + uuid4().bytes[:6])


def handle(follows: UUID, scope: str, name: str = "prefect.flow-run.Failed") -> list[ReceivedEvent]:
    """What a new server handles when this event comes."""
    handled: list[ReceivedEvent] = []
    ordering = CausalOrdering(scope)

    async def handler(event: ReceivedEvent, depth: int = 0) -> None:
        async with ordering.preceding_event_confirmed(handler, event, depth):
            handled.append(event)

    event = ReceivedEvent.model_validate(
        {
            "occurred": datetime.now(UTC),
            "event": name,
            "resource": {"prefect.resource.id": "prefect.flow-run.x"},
            "id": uuid4(),
            "follows": follows,
        }
    )
    asyncio.run(handler(event))
    return handled


def test_an_event_does_not_wait_for_one_of_before_the_server():
    assert len(handle(id_of(time.time() - 3600), "before")) == 1


def test_a_run_of_a_schedule_does_not_wait_for_what_nobody_tells():
    assert len(handle(id_of(time.time() + 60), "scheduled", FIRST)) == 1


@pytest.mark.parametrize("leader", [id_of(time.time() + 60), uuid4()])
def test_it_waits_for_one_that_may_still_come(leader):
    with pytest.raises(EventArrivedEarly):
        handle(leader, f"after {leader}")


def test_ids_say_when_they_were_made():
    assert made_at(id_of(1_700_000_000.25)) == 1_700_000_000.25
    assert made_at(uuid4()) == float("inf")
    now = time.time()
    from prefect._internal.uuid7 import uuid7

    assert abs(made_at(uuid7()) - now) < 60
