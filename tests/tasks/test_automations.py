"""The automations that watch over runs: made once, and not disturbed by another ``make up``."""

from __future__ import annotations

import pytest
from prefect.client.orchestration import get_client

from tasks import automations

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def client():
    with get_client(sync_client=True) as made:
        automations.prepare_automations(made)
        yield made


def read(client, name=automations.ZOMBIES):
    (found,) = client.read_automations_by_name(name)
    return found


def test_what_is_up_to_date_is_left_alone(client, monkeypatch):
    """An update would lose sight of the runs that are listened to."""
    updated = []
    monkeypatch.setattr(
        type(client), "update_automation", lambda _self, *given: updated.append(given)
    )
    automations.prepare_automations(client)
    assert updated == []


def test_what_changed_is_brought_up_to_date_and_stays_switched_off(client, monkeypatch):
    before = read(client)
    client.pause_automation(before.id)
    changed = automations.zombie_automation()
    changed.trigger.within *= 2
    monkeypatch.setattr(automations, "zombie_automation", lambda: changed)
    automations.prepare_automations(client)
    after = read(client)
    assert after.trigger.within == 2 * before.trigger.within
    assert (after.id, after.enabled) == (before.id, False)


def test_a_run_is_watched_from_its_start_and_not_only_from_its_first_heartbeat(client):
    assert {"prefect.flow-run.Running", "prefect.flow-run.heartbeat"} == read(client).trigger.after
