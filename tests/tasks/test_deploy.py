"""What people set on a server survives a change of what is declared, and is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from iclora.errors import BadConfig, IcloraError
from tasks.deploy import deploy
from tasks.merge import VARIABLE

ROOT = Path(__file__).parents[2]
TRAIN = "iclora: train when a dataset is published"
EVALUATE = "iclora: evaluate when an adapter is trained"
FOOTAGE = {"sources": ["/data/footage"], "name": "prod", "preset": "flux1-dev", "approve": True}


class Server:
    """Its API as the UI uses it, and a declaration that can be changed."""

    def __init__(self, client: SyncPrefectClient, file: Path) -> None:
        self.client, self.file = client, file

    def ask(self, verb: str, path: str, body: Any = None) -> Any:
        """By Prefect's own client, which asks a busy database's 503 again."""
        answer = self.client._client.request(verb, f"/{path}", json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> Any:
        return self.ask("GET", f"deployments/name/{name}/{name}")

    def patch(self, name: str, **values: Any) -> None:
        self.ask("PATCH", f"deployments/{self.deployment(name)['id']}", values)

    def schedules(self, name: str) -> dict[str, Any]:
        return {one["slug"]: one for one in self.deployment(name)["schedules"]}

    def patch_schedule(self, name: str, slug: str, **values: Any) -> None:
        place = f"deployments/{self.deployment(name)['id']}/schedules"
        self.ask("PATCH", f"{place}/{self.schedules(name)[slug]['id']}", values)

    def add_schedule(self, name: str, **values: Any) -> None:
        self.ask("POST", f"deployments/{self.deployment(name)['id']}/schedules", [values])

    def automation(self, name: str) -> Any:
        (found,) = self.automations(name)
        return found

    def automations(self, *names: str) -> Any:
        chosen = {"automations": {"name": {"any_": list(names)}}}
        return self.ask("POST", "automations/filter", chosen)

    def declare(self, name: str, **values: Any) -> Any:
        """Changes the declaration of a deployment."""
        told = yaml.safe_load(self.file.read_text())
        (spec,) = [one for one in told["deployments"] if one["name"] == name]
        spec |= json.loads(json.dumps(values))
        self.file.write_text(yaml.safe_dump(told))
        return spec


@pytest.fixture
def server(prefect, tmp_path, monkeypatch):
    """A server that nothing was deployed to, and a copy of what is declared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ICLORA_HOME", str(ROOT))
    file = tmp_path / "prefect.yaml"
    file.write_text((ROOT / "prefect.yaml").read_text())
    with get_client(sync_client=True) as client:
        for one in client.read_deployments():
            client.delete_deployment(one.id)
        for one in client.read_automations():
            client.delete_automation(one.id)
        for pool in client.read_work_pools():
            client.delete_work_pool(pool.name)
        for variable in client.read_variables():
            client.delete_variable_by_name(variable.name)
        yield Server(client, file)


def test_what_people_set_stays_and_what_they_left_alone_follows_the_declaration(server):
    assert deploy() == []
    cpu = {"work_pool_name": "iclora-cpu", "work_queue_name": "nightly"}
    env = {"ICLORA_STORE": "s3://bucket/prod", "TOKEN": "hunter2"}
    variables = {**server.deployment("retrain")["job_variables"], "stream_output": False}
    variables["env"] = {**variables.get("env", {}), **env}
    server.patch("retrain", parameters=FOOTAGE)
    server.patch("retrain", tags=["iclora", "prod"], job_variables=variables, concurrency_limit=3)
    server.patch("retrain", **cpu)
    berlin = {"cron": "0 4 * * 1", "timezone": "Europe/Berlin"}
    server.patch_schedule("retrain", "weekly", schedule=berlin, active=True, parameters=FOOTAGE)
    daily = {"interval": 86400.0, "anchor_date": "2026-01-01T00:00:00Z"}
    server.add_schedule("retrain", slug="mine", schedule=daily, parameters={"name": "mine"})
    server.add_schedule("retrain", schedule=daily, parameters={"name": "nameless"})
    server.ask("PATCH", f"automations/{server.automation(TRAIN)['id']}", {"enabled": True})
    server.ask("PATCH", "work_pools/iclora-gpu", {"is_paused": True, "concurrency_limit": 4})

    weekly = {"cron": "0 5 * * 0", "timezone": "UTC", "slug": "weekly", "active": False}
    monthly = {**weekly, "cron": "0 0 1 * *", "slug": "monthly", "parameters": {"name": "month"}}
    pool = {"name": "iclora-gpu", "job_variables": {"env": {"NEW": "1", "TOKEN": "theirs"}}}
    server.declare(
        "retrain",
        description="Another text.",
        parameters={"name": "declared", "store": "s3://declared"},
        tags=["iclora", "new"],
        schedules=[weekly, monthly],
        work_pool=pool,
    )
    kept = deploy()

    found, schedules = server.deployment("retrain"), server.schedules("retrain")
    assert found["parameters"] == {**FOOTAGE, "store": "s3://declared"}
    assert set(found["tags"]) == {"iclora", "prod", "new"}
    assert found["job_variables"]["env"].items() >= {**env, "NEW": "1"}.items()
    assert found["job_variables"]["stream_output"] is False
    assert [found["work_pool_name"], found["work_queue_name"]] == list(cpu.values())
    assert found["global_concurrency_limit"]["limit"] == 3
    assert found["description"] == "Another text."
    assert set(schedules) == {"weekly", "monthly", "mine", None}
    assert schedules["weekly"]["schedule"].items() >= berlin.items()
    assert schedules["weekly"]["active"] is True
    assert schedules["weekly"]["parameters"] == FOOTAGE
    assert schedules["mine"]["schedule"]["interval"] == 86400.0
    assert schedules["mine"]["parameters"] == {"name": "mine"}
    assert schedules[None]["parameters"] == {"name": "nameless"}
    assert schedules["monthly"]["parameters"] == {"name": "month"}
    assert server.automation(TRAIN)["enabled"] is True
    assert server.automation(EVALUATE)["enabled"] is False
    gpu = server.ask("GET", "work_pools/iclora-gpu")
    assert (gpu["is_paused"], gpu["concurrency_limit"]) == (True, 4)

    told = "\n".join(kept)
    assert 'retrain: parameters.name stays "prod"; declared: "declared"' in kept
    for part in ("tags.prod", "concurrency", "work_pool", "job_variables.env.TOKEN"):
        assert f"retrain: {part} stays" in told, part
    assert "retrain: schedule mine stays, although it is not declared" in kept
    assert "retrain: schedule weekly: active stays true; declared: false" in kept
    assert "work pool iclora-gpu: is_paused stays true; declared: false" in kept
    assert f"train-adapter: automation {TRAIN}: enabled stays true; declared: false" in kept
    assert "hunter2" not in told
    assert deploy() == kept, "and again"


def test_what_nobody_changed_follows_and_nothing_is_sent_when_nothing_changed(server):
    spec = server.declare("retrain", parameters={"name": "first", "approve": True})
    daily = {"interval": 86400, "slug": "daily", "parameters": {"name": "daily"}}
    monthly = {"rrule": "FREQ=MONTHLY;BYDAY=1MO", "timezone": "Asia/Tokyo", "slug": "monthly"}
    limit = {"limit": 2, "collision_strategy": "CANCEL_NEW"}
    server.declare("build-dataset", schedules=[daily, monthly], concurrency_limit=limit)
    assert deploy() == []
    before = {name: server.deployment(name)["updated"] for name in ("retrain", "build-dataset")}
    assert deploy() == []
    for name, updated in before.items():
        assert server.deployment(name)["updated"] == updated, (
            "its scheduled runs would be made anew"
        )
    weekly = {**spec["schedules"][0], "cron": "0 6 * * *", "timezone": "Asia/Tokyo"}
    server.declare("retrain", parameters={"name": "second"}, schedules=[weekly], tags=["other"])
    server.declare("train-adapter", triggers=[])
    assert deploy() == []
    found, schedules = server.deployment("retrain"), server.schedules("retrain")
    assert (found["parameters"], found["tags"]) == ({"name": "second"}, ["other"])
    assert (
        schedules["weekly"]["schedule"].items()
        >= {"cron": "0 6 * * *", "timezone": "Asia/Tokyo"}.items()
    )
    assert server.automations(TRAIN) == []
    server.declare("retrain", schedules=[])
    assert deploy() == []
    assert server.schedules("retrain") == {}


def test_a_switch_keeps_the_parameters_of_a_declared_schedule(server):
    """Prefect's own switch sends none, and Prefect takes that for an empty table."""
    weekly = {"cron": "0 5 * * 0", "slug": "weekly", "active": False, "parameters": {"name": "a"}}
    server.declare("retrain", schedules=[weekly])
    deploy()
    server.declare("retrain", schedules=[{**weekly, "active": True}])
    assert deploy() == []
    found = server.schedules("retrain")["weekly"]
    assert (found["active"], found["parameters"]) == (True, {"name": "a"})


def test_what_was_deployed_before_anything_was_remembered_is_a_persons(server):
    deploy()
    server.patch("retrain", parameters=FOOTAGE, description="Ours.")
    with get_client(sync_client=True) as client:
        for one in client.read_variables():
            assert one.name.startswith(VARIABLE)
            client.delete_variable_by_name(one.name)
    server.declare("retrain", parameters={"store": "s3://declared"}, tags=["iclora", "new"])
    deploy()
    found = server.deployment("retrain")
    assert found["parameters"] == {**FOOTAGE, "store": "s3://declared"}
    assert found["tags"] == ["iclora", "new"]
    assert found["description"] == "Ours."


def test_what_people_deleted_stays_deleted_except_a_deployment(server):
    deploy()
    place = f"deployments/{server.deployment('retrain')['id']}/schedules"
    server.ask("DELETE", f"{place}/{server.schedules('retrain')['weekly']['id']}")
    server.ask("DELETE", f"automations/{server.automation(EVALUATE)['id']}")
    server.ask("DELETE", f"deployments/{server.deployment('train-adapter')['id']}")
    said = "was deleted and stays so, although it is declared"
    assert deploy() == [
        f"evaluate-adapter: automation {EVALUATE} {said}",
        f"retrain: schedule weekly {said}",
    ]
    assert server.deployment("train-adapter")["tags"] == ["iclora", "gpu"]
    actions = server.automation(TRAIN)["actions"]
    assert actions[0]["deployment_id"] == server.deployment("train-adapter")["id"]


def test_it_says_what_prefect_deploy_says(server):
    deploy()
    names = ("build-dataset", "train-adapter", "evaluate-adapter", "retrain")

    def seen() -> Any:
        ours = {"id", "created", "updated", "version_id", "version_info", "last_polled", "labels"}
        ours |= {"schedules", "deployment_id", "updated_by", "created_by", "status"}
        pick = lambda found: {key: one for key, one in found.items() if key not in ours}  # noqa: E731 - one line, used twice
        deployments = [server.deployment(name) for name in names]
        return (
            [pick(one) for one in deployments],
            [[pick(one) for one in found["schedules"]] for found in deployments],
            [
                (one["enabled"], one["description"], one["actions"], one["trigger"]["match"],
                 one["trigger"]["expect"], one["trigger"]["within"])
                for one in (server.automation(TRAIN), server.automation(EVALUATE))
            ],
        )  # fmt: skip

    before = seen()
    subprocess.run(
        [Path(sys.executable).with_name("prefect"), "--no-prompt", "deploy", "--all"],
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()},
        check=True,
        capture_output=True,
    )
    assert seen() == before
    assert deploy() == [], "and takes nothing of it for a person's"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"build": [{"a.step": {}}]}, "build is nothing that `make up` can do"),
        ({"schedules": [{"cron": "0 0 * * *"}]}, "a schedule has no slug"),
    ],
)
def test_what_only_prefect_can_do_is_refused_before_anything_is_done(server, change, said):
    server.declare("retrain", **change)
    with pytest.raises(BadConfig, match=said):
        deploy()
    with get_client(sync_client=True) as client, pytest.raises(ObjectNotFound):
        client.read_work_pool("iclora-cpu")


def test_what_means_nothing_is_named_and_what_the_server_refuses_is_one_sentence(server):
    deploy()
    server.patch("retrain", parameters={"nam": "typo"}, enforce_parameter_schema=False)
    assert "retrain: parameters.nam means nothing to this version; remove it" in deploy()
    server.declare("retrain", parameters={"approve": "perhaps"})
    with pytest.raises(IcloraError, match="the Prefect server refuses.*approve"):
        deploy()
