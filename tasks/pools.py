"""What the server must hold before deployments make sense: pools and automations."""

from __future__ import annotations

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists

POOLS: dict[str, int | None] = {"iclora-cpu": None, "iclora-gpu": 1}
"""Work pool to its limit of runs at once. One training a GPU: a pool's limit, unlike a
deployment's, holds no lease and so survives a restart of the server in the middle of a run."""

ZOMBIES = "iclora: a run without a heartbeat has crashed"
SILENCE = timedelta(seconds=90)
"""Three heartbeats of 30 s."""

_EVENTS = ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed")


def prepare_server() -> None:
    """Creates or updates pools and automations; may be repeated."""
    with get_client(sync_client=True) as client:
        for name, limit in POOLS.items():
            _prepare_pool(client, name, limit)
        if not client.read_automations_by_name(ZOMBIES):
            client.create_automation(zombie_automation())


def _prepare_pool(client: SyncPrefectClient, name: str, limit: int | None) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=limit))
    except ObjectAlreadyExists:
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))


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
            "after": ["prefect.flow-run.heartbeat"],
            "expect": [f"prefect.flow-run.{event}" for event in _EVENTS],
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "for_each": ["prefect.resource.id"],
            "posture": Posture.Proactive,
            "threshold": 1,
            "within": SILENCE,
        }
    )
    return AutomationCore(name=ZOMBIES, trigger=trigger, actions=[crash])


if __name__ == "__main__":
    prepare_server()
