"""A build on a Ray cluster of two nodes, one of which dies in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from drill_tools import files_of, until

from iclora.store import Store

Cluster = pytest.importorskip("ray.cluster_utils", reason="needs the extra ray").Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KEEP = """
from prefect.blocks.system import Secret
Secret(value="word").save("iclora-captioner-key", overwrite=True)
"""
FLOW = """
import json, sys
from flows.build_dataset import build_dataset
if __name__ == "__main__":
    build_dataset(**json.loads(sys.argv[1]))
"""


@pytest.fixture
def secret(operations):
    """The captioner's key as a Secret block, which no node has in its environment."""
    subprocess.run(
        [sys.executable, "-c", KEEP],
        cwd=operations.folder,
        env=operations.environment,
        check=True,
    )
    return "word"


def node(cluster, cpus: int):
    """Starts a node; Ray gives up one that takes 30 s (no setting), so it is tried again."""
    for left in (2, 1, 0):
        try:
            return cluster.add_node(
                num_cpus=cpus, object_store_memory=80 << 20, include_dashboard=False
            )
        except Exception:  # Ray raises nothing narrower
            if not left:
                raise
    return None


@pytest.fixture
def cluster(monkeypatch):
    """A head without room for work of its own."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster()
    node(made, 0)
    yield made
    made.shutdown()


def build(cluster, operations, store, films, overrides):
    """The flow as ``python -m flows.build_dataset`` runs it, from a folder of its own."""
    parameters = {
        "sources": [os.path.relpath(film, operations.folder) for film in films],
        "name": "films",
        "store": os.path.relpath(store.root, operations.folder),
        "overrides": overrides,
    }
    return subprocess.Popen(
        [sys.executable, "-c", FLOW, json.dumps(parameters)],
        cwd=operations.folder,
        env={**operations.environment, "ICLORA_RUNNER": cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_node_dies_in_a_build_and_costs_only_what_it_had_in_work(
    cluster, operations, store, films, overrides, calm, captioner, secret
):
    nodes = [node(cluster, 1) for _ in range(2)]
    captioner.delay = 0.5
    child = build(cluster, operations, store, films, overrides)
    until(lambda: captioner.asked or child.poll() is not None, 400, "nothing was captioned")
    cluster.remove_node(nodes[1], allow_graceful=False)
    finished = {str(path): path.stat().st_mtime_ns for path in manifests(store)}
    said = child.communicate(timeout=500)[0]
    assert child.returncode == 0, said
    assert files_of(store) == calm
    assert finished.items() <= {str(p): p.stat().st_mtime_ns for p in manifests(store)}.items()
    assert captioner.keys == {f"Bearer {secret}"}, "every node has it"
    asked = sum(captioner.asked.values())
    assert asked <= len(captioner.asked) * 2, "no question more often than by node and successor"


def manifests(store: Store):
    return list((store.work_folder.parent / "stages").glob("*/*/manifest.json"))
