"""Brings a server up to what this checkout declares, and keeps what people changed in the UI.

``prefect deploy`` replaces a deployment's schedules and automations by those of ``prefect.yaml``.
So it runs only when something declared has changed (or the server is new), and then switches that
people set, and schedules that they added, are put back.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import prefect
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.exceptions import ObjectNotFound

from iclora.errors import IcloraError
from tasks.automations import prepare_automations
from tasks.pools import prepare_pools

DECLARED = Path("prefect.yaml")
DIGEST_LABEL = "iclora:"
"""How the names of our own automations begin."""


class KeptSettings(NamedTuple):
    """What people set."""

    schedules: dict[str, list[DeploymentSchedule]]
    """Of each deployment."""

    automations: dict[str, bool]
    """Name to whether it is switched on."""


def deploy(record: Path) -> None:
    """Prepares the server and deploys what changed since ``record`` was written."""
    with get_client(sync_client=True) as client:
        prepare_pools(client)
        prepare_automations(client)
        names = [d["name"] for d in yaml.safe_load(DECLARED.read_text("utf-8"))["deployments"]]
        kept = read_kept(client, names)
        same = record.exists() and record.read_text("utf-8") == digest()
        if same and len(kept.schedules) == len(names):
            return
        _prefect_deploy()
        restore(client, kept)
    record.write_text(digest(), encoding="utf-8")


def digest() -> str:
    """Of everything that a deployment is made of."""
    files = [DECLARED, *sorted(Path("flows").glob("*.py"))]
    parts = [prefect.__version__, str(Path.cwd()), *(file.read_text("utf-8") for file in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_kept(client: SyncPrefectClient, names: list[str]) -> KeptSettings:
    """The switches and schedules of the deployments that are there."""
    schedules: dict[str, list[DeploymentSchedule]] = {}
    for name in names:
        try:
            found = client.read_deployment_by_name(f"{name}/{name}")
        except ObjectNotFound:
            continue
        schedules[name] = client.read_deployment_schedules(found.id)
    ours = [one for one in client.read_automations() if one.name.startswith(DIGEST_LABEL)]
    return KeptSettings(schedules, {one.name: one.enabled for one in ours})


def restore(client: SyncPrefectClient, kept: KeptSettings) -> None:
    """Puts switches back where they were, and schedules that are not declared."""
    for name, schedules in kept.schedules.items():
        place = client.read_deployment_by_name(f"{name}/{name}").id
        declared = {one.slug: one for one in client.read_deployment_schedules(place)}
        for one in schedules:
            if one.slug and one.slug in declared:
                now = declared[one.slug].id
                client.update_deployment_schedule(place, now, active=one.active)
            else:
                again = DeploymentScheduleCreate(
                    schedule=one.schedule,
                    active=one.active,
                    parameters=one.parameters,
                    slug=one.slug,
                )
                client.create_deployment_schedules(place, [again])
    for one in client.read_automations():
        wanted = kept.automations.get(one.name, one.enabled)
        if wanted != one.enabled:
            switch = client.resume_automation if wanted else client.pause_automation
            switch(one.id)


def _prefect_deploy() -> None:
    program = Path(sys.executable).with_name("prefect")
    done = subprocess.run(
        [program, "--no-prompt", "deploy", "--all"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise IcloraError(f"prefect deploy failed: {(done.stderr or done.stdout)[-600:]}")


if __name__ == "__main__":
    deploy(Path(sys.argv[1]))
