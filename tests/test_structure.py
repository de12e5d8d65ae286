"""Rules of the code base that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from iclora.presets import load_config, preset_names

ROOT = Path(__file__).parents[1]
PACKAGES = ["schemas", "iclora", "tasks", "flows"]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_package_name_is_ours(name):
    assert Path(import_module(name).__file__).parent.parent == ROOT
    assert packages_distributions().get(name, ["iclora"]) == ["iclora"]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves(name):
    assert load_config(name).preset == name


def test_every_deployment_has_an_entrypoint_of_its_own_name():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert deployments
    for deployment in deployments:
        module, _, function = deployment["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), function)
        assert flow.name == deployment["name"]


@pytest.mark.parametrize(
    "statement", ["import flows.retrain, flows.build_dataset", "import iclora.cli"]
)
def test_importing_does_not_import_torch(statement):
    code = f"{statement}\nimport sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_unmapped_appears_only_in_map():
    """Outside ``.map`` Prefect passes the wrapper through silently."""
    for path in (ROOT / "flows").glob("*.py"):
        tree = ast.parse(path.read_text())
        allowed = {
            id(node)
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "map"
            for node in ast.walk(call)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "unmapped":
                assert id(node) in allowed, f"{path.name}:{node.lineno}"


def test_nothing_committed_names_a_machine_or_an_index():
    """Constraints hold versions only; no file carries an address of a package index."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or "==" in line, line
        assert "://" not in line, line
