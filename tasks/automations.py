"""Automations that watch over every run: silent ones are marked Crashed, and people are told.

A notice goes to ``ICLORA_NOTIFY_URL`` (any webhook that takes JSON with a ``text``: Slack,
Mattermost, Discord's Slack address, your own); without one, to the notices that
``tasks.static_server`` keeps on this machine, so that it works without any account.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from tasks.environment import PAGES_ENV

NOTIFY = "ICLORA_NOTIFY_URL"
BLOCK = "iclora-notices"
ZOMBIES = "iclora: a run without a heartbeat has crashed"
NOTICES = "iclora: tell people of runs that failed or wait for them"

SILENCE = timedelta(seconds=180)
"""Six heartbeats of 30 s: longer than a restart of the server takes, in which none is heard."""

ONCE = timedelta(seconds=1)
"""Within it one thing is told once. Prefect hands an event to every automation again when one of
them found the database locked; without a time of its own a notice would be sent again, too."""

_ALIVE = ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed", "TimedOut")
_TOLD = ("Failed", "Crashed", "TimedOut", "Paused")
_SUBJECT = "{{ flow_run.name }} is {{ flow_run.state.name }}"
_BODY = "{{ flow.name }}: {{ flow_run.state.message or 'see the run' }} {{ flow_run|ui_url }}"


def prepare_automations(client: SyncPrefectClient) -> None:
    """Makes the automations that are missing and brings the others up to date.

    Whether one is switched on is a person's choice and stays as it is. What is up to date is left
    alone: an update makes the server forget the runs that it listens to, and those that a reboot
    ended would stay Running for ever.
    """
    for wanted in (zombie_automation(), notice_automation(_notice_block())):
        found = client.read_automations_by_name(wanted.name)
        if not found:
            client.create_automation(wanted)
        elif _content_of(found[0]) != _content_of(wanted):
            kept = wanted.model_copy(update={"enabled": found[0].enabled})
            client.update_automation(found[0].id, kept)


def _content_of(automation: AutomationCore) -> dict[str, Any]:
    return automation.model_dump(include={"trigger", "actions"})


def zombie_automation() -> AutomationCore:
    """Marks a silent run Crashed: stock Prefect leaves it Running when its machine is gone."""
    crash = ChangeFlowRunState(
        name=None,
        state=StateType.CRASHED,
        message=f"No heartbeat for {SILENCE.seconds} s: its process or machine is gone.",
        force=False,
    )
    trigger = EventTrigger.model_validate(
        {
            # Its first heartbeat may never come: the server itself sees that it began.
            "after": [f"prefect.flow-run.{event}" for event in ("Running", "heartbeat")],
            "expect": [f"prefect.flow-run.{event}" for event in _ALIVE],
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "for_each": ["prefect.resource.id"],
            "posture": Posture.Proactive,
            "threshold": 1,
            "within": SILENCE,
        }
    )
    return AutomationCore(name=ZOMBIES, trigger=trigger, actions=[crash])


def notice_automation(block: UUID) -> AutomationCore:
    """Tells people of a run that failed, crashed or waits for an answer."""
    trigger = EventTrigger.model_validate(
        {
            "expect": [f"prefect.flow-run.{event}" for event in _TOLD],
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "for_each": ["prefect.resource.id"],
            "posture": Posture.Reactive,
            "threshold": 1,
            "within": ONCE,
        }
    )
    tell = SendNotification(block_document_id=block, subject=_SUBJECT, body=_BODY)
    return AutomationCore(name=NOTICES, trigger=trigger, actions=[tell])


def _notice_block() -> UUID:
    """The webhook that is told; its address may hold a secret, so it is kept in a block."""
    block = CustomWebhookNotificationBlock(
        name=BLOCK,
        url=os.environ.get(NOTIFY) or f"{os.environ.get(PAGES_ENV, '')}/notices",
        json_data={"text": "{{subject}}\n{{body}}"},
        headers=None,
        cookies=None,
    )
    saved = block.save(BLOCK, overwrite=True)
    assert isinstance(saved, UUID)  # and not a coroutine: no event loop runs here
    return saved
