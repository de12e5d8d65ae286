"""Brings a server up to what this checkout declares; what people changed there stays.

Work pools, automations, deployments with their schedules and triggers.
``prefect deploy`` replaces what a deployment holds by what ``prefect.yaml`` says. Here the two are
merged (``tasks.merge``) before anything is sent, so no run starts with values that nobody wants.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyOptions, DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import DeploymentTriggerTypes
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.templating import (
    apply_values,
    resolve_block_document_references,
    resolve_variables,
)
from pydantic import TypeAdapter

from iclora.errors import BadConfig, IcloraError
from tasks.automations import automation_items, automation_values, prepare_automations
from tasks.merge import Items, Values, digests, merge, merge_items, recall, remember

DECLARED = Path("prefect.yaml")

POOLS: dict[str, int | None] = {"iclora-cpu": None, "iclora-gpu": 1}
"""Limit of concurrent runs per work pool. One training per GPU: a pool's limit, unlike a
deployment's, holds no lease and so survives a restart of the server in the middle of a run. It
spares the worker processes that would only wait; ``tasks.gpu_locks`` holds the devices themselves,
also against runs of other pools and by hand."""

_KEYS = {
    *("prefect-version", "definitions", "deployments"),
    *("name", "description", "entrypoint", "version", "tags", "parameters", "pull", "paused"),
    *("work_pool", "concurrency_limit", "enforce_parameter_schema", "schedules", "triggers"),
}
_RULE = ("cron", "day_or", "interval", "anchor_date", "rrule")
_ANCHOR = "2020-01-01T00:00:00Z"
"""Default start of an interval; Prefect's would begin anew at every deployment."""

_TRIGGER: TypeAdapter[DeploymentTriggerTypes] = TypeAdapter(DeploymentTriggerTypes)


class Declared(NamedTuple):
    """A deployment as ``prefect.yaml`` declares it."""

    name: str
    flow: str

    code: dict[str, Any]
    """Facts of the checkout, which no person changes on the server."""

    values: Values
    schedules: dict[str, Values]
    """By their slugs."""

    triggers: list[DeploymentTriggerTypes]


def deploy() -> list[str]:
    """Prepares pools, automations and deployments.

    Returns:
        A sentence on each difference from what is declared that a person made, and that stays.

    Raises:
        IcloraError: the server refuses something.
    """
    deployments = read_declared(DECLARED)
    with get_client(sync_client=True) as client:
        try:
            kept = [*_prepare_pools(client), *prepare_automations(client)]
            for declared in deployments:
                kept += [f"{declared.name}: {sentence}" for sentence in _deploy(client, declared)]
        except PrefectHTTPStatusError as error:
            raise IcloraError(f"the Prefect server refuses: {error.response.text}") from error
    return kept


def _prepare_pools(client: SyncPrefectClient) -> list[str]:
    """Creates the pools that are missing; what a person changed stays."""
    last = recall(client, "pools") or {}
    kept: list[str] = []
    declared: dict[str, Any] = {}
    for name, limit in POOLS.items():
        wanted = {"concurrency_limit": limit, "is_paused": False}
        declared[name] = digests(wanted)
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(
                WorkPoolCreate(name=name, type="process", concurrency_limit=limit)
            )
            continue
        now = {"concurrency_limit": pool.concurrency_limit, "is_paused": pool.is_paused}
        merged = merge(last.get(name), now, wanted)
        if merged.values != now:
            client.update_work_pool(name, WorkPoolUpdate(**merged.values))
        kept += [f"work pool {name}: {sentence}" for sentence in merged.kept]
    remember(client, "pools", declared)
    return kept


def read_declared(file: Path) -> list[Declared]:
    """Reads the deployments as ``prefect deploy`` would.

    Raises:
        BadConfig: there is something that only ``prefect deploy`` can do, or a schedule that could
            not be told from others.
    """
    content: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    if unknown := {*content, *(key for spec in content["deployments"] for key in spec)} - _KEYS:
        raise BadConfig(
            f"{file}: {', '.join(sorted(unknown))} is nothing that `make up` can do; "
            "remove it, or use `prefect deploy`"
        )
    specs: Any = asyncio.run(_resolve(content["deployments"]))
    specs = apply_values(specs, dict(os.environ), remove_notset=False)
    deployments: list[Declared] = []
    for raw, spec in zip(content["deployments"], specs, strict=True):
        steps = raw.get("pull", content.get("pull", []))  # Prefect resolves their blocks in the run
        flow = load_flow_from_entrypoint(spec["entrypoint"])
        pool, limit = spec["work_pool"], spec.get("concurrency_limit")
        deployments.append(
            Declared(
                name=spec["name"],
                flow=flow.name,
                code={
                    "entrypoint": spec["entrypoint"],
                    "version": spec.get("version") or flow.version,
                    "pull_steps": apply_values(steps, dict(os.environ), remove_notset=False),
                    "parameter_openapi_schema": parameter_schema(flow).model_dump(
                        exclude_unset=True
                    ),
                    "enforce_parameter_schema": spec.get("enforce_parameter_schema", True),
                },
                values={
                    "description": spec.get("description") or flow.description,
                    "work_pool": [pool["name"], pool.get("work_queue_name", "default")],
                    "paused": spec.get("paused", False),
                    "concurrency": {"limit": limit} if isinstance(limit, int) else limit,
                    **_flat("parameters/", spec.get("parameters", {})),
                    **{f"tags/{tag}": True for tag in spec.get("tags", [])},
                    **_flat_variables(pool.get("job_variables", {})),
                },
                schedules=dict(_schedule(file, item) for item in spec.get("schedules", [])),
                triggers=[_trigger(file, item) for item in spec.get("triggers", [])],
            )
        )
    return deployments


async def _resolve(specs: list[dict[str, Any]]) -> Any:
    without_blocks: Any = await resolve_block_document_references(specs)
    return await resolve_variables(without_blocks)


def _schedule(file: Path, spec: dict[str, Any]) -> tuple[str, Values]:
    if not spec.get("slug"):
        raise BadConfig(f"{file}: a schedule has no slug; give it one, by which it is known again")
    rule = {key: spec[key] for key in (*_RULE, "timezone") if key in spec}
    if "interval" in rule:
        rule.setdefault("anchor_date", _ANCHOR)
    schedule = DeploymentScheduleCreate.model_validate(
        {
            "schedule": rule,
            "active": spec.get("active", True),
            "parameters": spec.get("parameters", {}),
        }
    )
    return spec["slug"], _schedule_values(schedule)


def _trigger(file: Path, spec: dict[str, Any]) -> DeploymentTriggerTypes:
    if not spec.get("name"):
        raise BadConfig(f"{file}: a trigger has no name; give it one, by which it is known again")
    return _TRIGGER.validate_python(spec)


def _deploy(client: SyncPrefectClient, declared: Declared) -> list[str]:
    """Creates or updates one deployment with its schedules and automations."""
    last = recall(client, declared.name) or {}
    names = {*last.get("automations", {}), *(str(trigger.name) for trigger in declared.triggers)}
    owned = [item for name in sorted(names) for item in client.read_automations_by_name(name)]
    try:
        deployment = client.read_deployment_by_name(f"{declared.flow}/{declared.name}")
    except ObjectNotFound:
        flow = client.create_flow_from_name(declared.flow)
        fields = _fields(declared.values)
        deployment_id = client.create_deployment(flow, declared.name, **declared.code, **fields)
        kept: list[str] = []
        for automation in owned:  # of a deployment that somebody deleted
            client.delete_automation(automation.id)
        last, owned = {}, []
    else:
        deployment_id = deployment.id
        kept = _update(client, deployment, declared, last.get("values"))
    triggers: dict[str, AutomationCore] = {}
    for trigger in declared.triggers:
        trigger.set_deployment_id(deployment_id)
        automation = trigger.as_automation()
        triggers[automation.name] = automation
    schedules = _schedules_of(client, deployment_id)
    kept += merge_items(last.get("schedules"), schedules, declared.schedules)
    automations = {name: automation_values(item) for name, item in triggers.items()}
    items = automation_items(client, owned, triggers)
    kept += merge_items(last.get("automations"), items, automations)
    remember(
        client,
        declared.name,
        {
            "values": digests(declared.values),
            "schedules": {slug: digests(values) for slug, values in declared.schedules.items()},
            "automations": {name: digests(values) for name, values in automations.items()},
        },
    )
    return kept


def _update(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    declared: Declared,
    last: dict[str, str] | None,
) -> list[str]:
    now = _values_of(deployment)
    merged = merge(last, now, declared.values)
    changes = {
        key: value for key, value in declared.code.items() if getattr(deployment, key) != value
    }
    if merged.values != now:
        changes |= _fields(merged.values)
    if changes:  # without any, the runs that are scheduled stay
        client.update_deployment(deployment.id, DeploymentUpdate(**changes))
    known = declared.code["parameter_openapi_schema"].get("properties", {})
    unknown = [name for name in _part(merged.values, "parameters/") if name not in known]
    return [
        *merged.kept,
        *(f"parameters.{name} means nothing to this version; remove it" for name in unknown),
    ]


def _schedules_of(client: SyncPrefectClient, deployment: UUID) -> Items:
    schedules = {
        item.slug or f"without a slug ({json.dumps(_schedule_values(item)['rule'])})": item
        for item in client.read_deployment_schedules(deployment)
    }

    def create(slug: str, values: Values) -> None:
        fields = {**_schedule_fields(values), "slug": slug}
        schedule = DeploymentScheduleCreate.model_validate(fields)
        client.create_deployment_schedules(deployment, [schedule])

    def update(slug: str, values: Values) -> None:
        # With all fields: Prefect empties the parameters of a schedule that is sent without.
        new = DeploymentScheduleCreate.model_validate(_schedule_fields(values))
        client.update_deployment_schedule(
            deployment, schedules[slug].id, new.active, new.schedule, parameters=new.parameters
        )

    def delete(slug: str) -> None:
        client.delete_deployment_schedule(deployment, schedules[slug].id)

    now = {slug: _schedule_values(schedule) for slug, schedule in schedules.items()}
    return Items("schedule", now, create, update, delete)


def _schedule_values(schedule: DeploymentSchedule | DeploymentScheduleCreate) -> Values:
    rule = schedule.schedule.model_dump(mode="json")
    return {
        "timezone": rule.pop("timezone", None),
        "rule": rule,
        "active": schedule.active,
        **_flat("parameters/", schedule.parameters),
    }


def _schedule_fields(values: Values) -> dict[str, Any]:
    return {
        "schedule": {**values["rule"], "timezone": values["timezone"]},
        "active": values["active"],
        "parameters": _part(values, "parameters/"),
    }


def _values_of(deployment: DeploymentResponse) -> Values:
    """Picks what people see of a deployment and may change."""
    limit, options = deployment.global_concurrency_limit, deployment.concurrency_options
    more = options.model_dump(mode="json", exclude_none=True) if options else {}
    return {
        "description": deployment.description,
        "work_pool": [deployment.work_pool_name, deployment.work_queue_name],
        "paused": deployment.paused,
        "concurrency": {"limit": limit.limit, **more} if limit else None,
        **_flat("parameters/", deployment.parameters),
        **{f"tags/{tag}": True for tag in deployment.tags},
        **_flat_variables(deployment.job_variables),
    }


def _fields(values: Values) -> dict[str, Any]:
    """Turns values into what Prefect's client takes."""
    pool, queue = values["work_pool"]
    limit = dict(values["concurrency"] or {})
    variables = _part(values, "job_variables/")
    environment = {
        key.removeprefix("env/"): variables.pop(key)
        for key in list(variables)
        if key.startswith("env/")
    }
    return {
        "description": values["description"],
        "work_pool_name": pool,
        "work_queue_name": queue,
        "paused": values["paused"],
        "concurrency_limit": limit.pop("limit", None),
        "concurrency_options": ConcurrencyOptions.model_validate(limit) if limit else None,
        "parameters": _part(values, "parameters/"),
        "tags": list(_part(values, "tags/")),
        "job_variables": {**variables, **({"env": environment} if environment else {})},
    }


def _flat_variables(variables: dict[str, Any]) -> dict[str, Any]:
    """Gives each variable of the environment a key of its own."""
    environment = variables.get("env")
    if not isinstance(environment, dict):
        return _flat("job_variables/", variables)
    rest = {key: value for key, value in variables.items() if key != "env"}
    return {**_flat("job_variables/", rest), **_flat("job_variables/env/", environment)}


def _flat(start: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{start}{key}": value for key, value in values.items()}


def _part(values: Values, start: str) -> dict[str, Any]:
    return {
        key.removeprefix(start): value for key, value in values.items() if key.startswith(start)
    }


def main() -> int:
    """Runs ``python -m tasks.deploy``, which prints a line on each difference that stays."""
    try:
        for sentence in deploy():
            print(sentence)  # noqa: T201 - what `make up` shows
    except IcloraError as error:
        print(error, file=sys.stderr)  # noqa: T201 - what `make up` shows
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
