"""Automations that watch our runs: silent ones are marked Crashed, and people are notified.

They see runs with the tag ``iclora`` and no others: a server may be a whole team's. Deployments
have the tag, and flows give it to the runs that they start.

A notice goes to ``ICLORA_NOTIFY_URL`` (any webhook that takes JSON with a ``text``: Slack,
Mattermost, Discord's Slack address, your own); without one, to the notices that
``tasks.static_server`` keeps on this machine, so that it works without any account.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from tasks.environment import PAGES_ENV
from tasks.merge import (
    Items,
    Values,
    digest,
    digests,
    merge,
    merge_items,
    recall,
    remember,
)
from tasks.prefect_defaults import TAG

NOTIFY = "ICLORA_NOTIFY_URL"
BLOCK = "iclora-notices"
ZOMBIES = "iclora: a run without a heartbeat has crashed"
NOTICES = "iclora: tell people of runs that failed or wait for them"

HEARTBEATS = 6
"""Number of heartbeats that may be missed. At 30 s each they span a restart of the server, during
which it hears none."""

ONCE = timedelta(seconds=1)
"""Period in which an event is notified once. Prefect hands an event to every automation again when
one of them found the database locked; with no period the notice would be sent again, too."""

_ALIVE = ("heartbeat", "Running", "Retrying", "Rerunning")
"""Events of a live run; each is followed by another of these or by one of ``_NO_HEARTBEAT``."""

_NO_HEARTBEAT = (
    *("Completed", "Failed", "Cancelled", "Crashed", "TimedOut"),
    *("Paused", "Suspended", "AwaitingRetry", "Late", "Scheduled", "Pending", "Resuming"),
    "Cancelling",  # the server would refuse to call it Crashed
)
"""States without a heartbeat: the run has ended, or it waits and may have no process. A run that
pauses with a process goes on beating, so its end is noticed."""

_NOTIFIED = ("Failed", "Crashed", "TimedOut", "Paused")
_SUBJECT = "{{ flow_run.name }} is {{ flow_run.state.name }}"
_BODY = "{{ flow.name }}: {{ flow_run.state.message or 'see the run' }} {{ flow_run|ui_url }}"
_OURS = {
    "match": {"prefect.resource.id": "prefect.flow-run.*"},
    "match_related": {"prefect.resource.id": f"prefect.tag.{TAG}"},
    "for_each": ["prefect.resource.id"],
}


def prepare_automations(client: SyncPrefectClient) -> list[str]:
    """Makes the automations that are missing; what a person changed or deleted stays so.

    What is up to date is left alone: an update makes the server forget the runs that it listens
    to, and those that a reboot ended would stay Running for ever.

    Returns:
        A sentence on each difference from what is declared.
    """
    block, kept = _notice_block(client)
    declared = {item.name: item for item in (zombie_automation(), notice_automation(block))}
    existing = [item for name in declared for item in client.read_automations_by_name(name)]
    items = automation_items(client, existing, declared)
    last = recall(client, "automations")
    if last is None:  # of a version that remembered nothing, and left people no more than a switch
        last = {name: digests(values) for name, values in items.now.items()}
        for values in last.values():
            del values["enabled"]
    wanted = {name: automation_values(item) for name, item in declared.items()}
    kept += merge_items(last, items, wanted)
    remember(client, "automations", {name: digests(values) for name, values in wanted.items()})
    return kept


def automation_items(
    client: SyncPrefectClient, existing: Sequence[Automation], declared: dict[str, AutomationCore]
) -> Items:
    """Wraps automations for a merge.

    Args:
        client: client of their server.
        existing: automations on the server.
        declared: automations by name.
    """
    current = {item.name: item for item in existing}

    def create(name: str, _values: Values) -> None:
        client.create_automation(declared[name])

    def update(name: str, values: Values) -> None:
        fields = current[name].model_dump(exclude={"id", "owner_resource"})  # the server keeps both
        automation = AutomationCore.model_validate({**fields, **values})
        client.update_automation(current[name].id, automation)

    def delete(name: str) -> None:
        client.delete_automation(current[name].id)

    now = {name: automation_values(item) for name, item in current.items()}
    return Items("automation", now, create, update, delete)


def automation_values(automation: AutomationCore) -> dict[str, Any]:
    """Picks what people see of an automation and may change."""
    return automation.model_dump(include={"description", "enabled", "trigger", "actions"})


def zombie_automation(silence: timedelta | None = None) -> AutomationCore:
    """Marks a silent run Crashed: stock Prefect leaves it Running when its machine is gone.

    Args:
        silence: time without a heartbeat; by default six periods of
            ``PREFECT_FLOWS_HEARTBEAT_FREQUENCY``.
    """
    silence = silence or timedelta(seconds=HEARTBEATS * heartbeat())
    crash = ChangeFlowRunState(
        name=None,
        state=StateType.CRASHED,
        message=f"No heartbeat for {silence.seconds} s: its process or machine is gone.",
        force=False,
    )
    trigger = EventTrigger.model_validate(
        {
            **_OURS,
            # Its first heartbeat may never come: the server itself sees that it began.
            "after": [f"prefect.flow-run.{event}" for event in _ALIVE],
            "expect": [f"prefect.flow-run.{event}" for event in (*_ALIVE, *_NO_HEARTBEAT)],
            "posture": Posture.Proactive,
            "threshold": 1,
            "within": silence,
        }
    )
    return AutomationCore(name=ZOMBIES, trigger=trigger, actions=[crash])


def heartbeat() -> int:
    """Returns the seconds between the heartbeats of a run; the checkout sets 30."""
    flows = get_current_settings().flows
    default = type(flows).model_fields["heartbeat_frequency"].default
    return flows.heartbeat_frequency or int(default)


def notice_automation(block: UUID) -> AutomationCore:
    """Notifies people of a run that failed, crashed or waits for an answer."""
    trigger = EventTrigger.model_validate(
        {
            **_OURS,
            "expect": [f"prefect.flow-run.{event}" for event in _NOTIFIED],
            "posture": Posture.Reactive,
            "threshold": 1,
            "within": ONCE,
        }
    )
    notify = SendNotification(block_document_id=block, subject=_SUBJECT, body=_BODY)
    return AutomationCore(name=NOTICES, trigger=trigger, actions=[notify])


def _notice_block(client: SyncPrefectClient) -> tuple[UUID, list[str]]:
    """Saves the webhook in a block, because its address may hold a secret.

    Without ``ICLORA_NOTIFY_URL`` an existing block is updated only by the checkout whose pages it
    names: two checkouts on one server would take the notices from each other.

    Returns:
        The block's id, and a sentence on each difference from what is declared.
    """
    webhook = os.environ.get(NOTIFY, "")
    url = webhook or f"{os.environ.get(PAGES_ENV, '')}/notices"
    checkout = "" if webhook else digest(str(Path.cwd()))
    last = recall(client, "notices")
    kept: list[str] = []
    slug = CustomWebhookNotificationBlock.get_block_type_slug()
    try:
        document = client.read_block_document_by_name(BLOCK, slug)
    except ObjectNotFound:
        block = CustomWebhookNotificationBlock(
            name=BLOCK,
            url=url,
            json_data={"text": "{{subject}}\n{{body}}"},
            headers=None,
            cookies=None,
        )
        block_id = block.save(BLOCK)
        assert isinstance(block_id, UUID)  # and not a coroutine: no event loop runs here
    else:
        block_id = document.id
        if not webhook and (last or {}).get("pages") != checkout:
            return block_id, kept
        now = {"url": document.data["url"]}
        merged = merge(last or digests(now), now, {"url": url})
        kept = [f"block {BLOCK}: {sentence}" for sentence in merged.kept]
        if merged.values != now:
            client.update_block_document(block_id, BlockDocumentUpdate(data=merged.values))
    remember(client, "notices", {"url": digest(url), "pages": checkout})
    return block_id, kept
