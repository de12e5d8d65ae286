"""prefect.yaml is what Prefect takes, and its run forms can be filled in by a stranger."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel, RawScheduleConfig
from prefect.events import DeploymentEventTrigger
from prefect.utilities.callables import parameter_schema

from iclora.presets import preset_names
from tasks.deploy import POOLS
from tasks.prefect_defaults import TAG

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
DECLARED = yaml.safe_load(TEXT)
NAMES = [deployment["name"] for deployment in DECLARED["deployments"]]


def flow_of(name):
    deployment = DECLARED["deployments"][NAMES.index(name)]
    module, _, function = deployment["entrypoint"].rpartition(".")
    return getattr(import_module(module), function)


def test_it_follows_prefects_own_schema():
    """And has no key that the schema would drop without a word."""
    model = PrefectYamlModel.model_validate(DECLARED)
    assert [one.name for one in model.deployments] == NAMES
    known = {*PrefectYamlModel.model_fields, "definitions"}
    assert set(DECLARED) <= known
    for raw, deployment in zip(DECLARED["deployments"], model.deployments, strict=True):
        assert set(raw) <= set(type(deployment).model_fields), raw["name"]
        assert deployment.work_pool.name in POOLS
        for schedule in raw.get("schedules", []):
            RawScheduleConfig.model_validate(schedule)
        for trigger in raw.get("triggers", []):
            known = set(DeploymentEventTrigger.model_fields)
            assert set(trigger) <= known
            DeploymentEventTrigger.model_validate(trigger)


def test_the_schedule_is_weekly_in_a_time_zone_and_paused():
    (schedule,) = DECLARED["deployments"][NAMES.index("retrain")]["schedules"]
    assert schedule["timezone"]
    assert schedule["active"] is False
    assert schedule["slug"] == "weekly"


def test_chaining_by_events_is_declared_and_paused():
    chained = {
        trigger["expect"][0]: (deployment["name"], trigger["enabled"])
        for deployment in DECLARED["deployments"]
        for trigger in deployment.get("triggers", [])
    }
    assert chained == {
        "dataset.published": ("train-adapter", False),
        "adapter.trained": ("evaluate-adapter", False),
    }


def test_every_run_is_tagged_as_ours_and_its_heart_beats_as_the_checkout_says():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["prefect"]
    for deployment in DECLARED["deployments"]:
        assert TAG in deployment["tags"]
        environment = deployment["work_pool"]["job_variables"]["env"]
        seconds = environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
        assert int(seconds) == settings["flows"]["heartbeat_frequency"]


def test_triggers_name_parameters_that_the_flows_have():
    for deployment in DECLARED["deployments"]:
        known = parameter_schema(flow_of(deployment["name"])).properties
        for trigger in deployment.get("triggers", []):
            assert set(trigger["parameters"]) <= set(known)


def test_no_path_of_a_machine_is_in_it():
    assert "{{ $ICLORA_HOME }}" in TEXT
    for line in TEXT.splitlines():
        assert not any(word.strip('"').startswith(("/", "~")) for word in line.split()), line


@pytest.mark.parametrize("name", NAMES)
def test_every_field_of_the_run_form_is_explained_and_has_a_default(name):
    deployment = DECLARED["deployments"][NAMES.index(name)]
    assert len(deployment["description"].split()) > 30
    schema = parameter_schema(flow_of(name))
    assert not schema.required
    for field, found in schema.properties.items():
        assert len(found.get("description", "").split()) >= 5, f"{name}: {field}"
        assert "default" in found
        assert "anyOf" not in found, f"{name}: {field} asks for a type first"


def test_presets_that_the_forms_name_exist():
    for name in NAMES:
        fields = parameter_schema(flow_of(name)).properties
        texts = [fields.get(field, {}).get("description", "") for field in ("preset", "base")]
        words = {word for text in texts for word in text.split("`")[1::2]}
        assert words - {"sources", "preset"} <= set(preset_names())
