"""`prefect deployment run build-dataset` finds build-dataset/build-dataset."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration._deployments import client

from tasks import deployment_names
from tasks.deployment_names import full_name

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("given", "full"),
    [("build-dataset", "build-dataset/build-dataset"), ("a/b", "a/b"), ("/b", "/b")],
)
def test_a_bare_name_is_doubled(given, full):
    assert full_name(given) == full


def test_prefect_runs_the_hook_in_this_checkout():
    code = (
        "import prefect\n"
        "from prefect.client.orchestration._deployments import client as c\n"
        "for cls in (c.DeploymentClient, c.DeploymentAsyncClient):\n"
        "    assert hasattr(cls.read_deployment_by_name, '_iclora_full_names'), cls\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_hook_steps_aside_when_prefect_changed(monkeypatch, caplog):
    monkeypatch.delattr(client, "DeploymentAsyncClient")
    with caplog.at_level(logging.WARNING):
        deployment_names.setup_environment(ctx=None)
    assert "FLOW/DEPLOYMENT" in caplog.text
    assert len(caplog.records) == 1
