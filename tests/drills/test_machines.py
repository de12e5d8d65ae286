"""The examples for more than one machine are what accelerate, Prefect and Kubernetes take."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from drill_tools import ROOT, free_port
from prefect.client.schemas import FlowRun

from iclora.training.metrics import read_metrics

pytest.importorskip("prefect_kubernetes", reason="needs the extra kubernetes")
from kubernetes_asyncio.client import ApiClient
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLES = ROOT / "docs" / "examples"
POOL = EXAMPLES / "kubernetes-gpu-pool.json"


def test_the_configuration_for_two_machines_is_one_that_accelerate_reads():
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    read = load_config_from_file(str(EXAMPLES / "two-machines.yaml"))
    assert isinstance(read, ClusterConfig)
    assert (read.distributed_type.value, read.num_machines) == ("MULTI_GPU", 2)


def test_a_training_on_two_machines(untrained, trained, steps, tmp_path):
    """Two launches that share the store and nothing else, on processors instead of GPUs.

    By ``torchrun``, which ``accelerate launch`` starts for GPUs: on processors it wants MPI.
    """
    launch = ["--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1"]
    launch.append(f"--master_port={free_port()}")
    settings = [f"--set={key}={json.dumps(value)}" for key, value in steps.items()]
    settings = [one.replace('"', "") for one in settings]
    machines = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *launch, f"--node_rank={rank}",
             "-m", "iclora", "train", "films", "--preset", "miniature", *settings,
             "--name", "mine", "--store", untrained.url],
            env={
                **os.environ,
                "ICLORA_WORK": str(tmp_path / f"machine-{rank}"),
                "ACCELERATE_USE_CPU": "true",
            },
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [machine.wait(400) for machine in machines] == [0, 0]
    (record,) = Path(untrained.root).glob("adapters/mine/*/run.json")
    assert json.loads(record.read_text())["processes"] == 2
    (alone,) = Path(trained[0].root).glob("adapters/mine/*/metrics.jsonl")
    assert losses(record.with_name("metrics.jsonl")) == pytest.approx(losses(alone), rel=1e-3)


def losses(journal):
    return [row["loss"] for row in read_metrics(journal) if "loss" in row]


@pytest.fixture
def job_of(prefect):
    """What a Kubernetes worker submits for a run with settings of its own."""

    async def make(values):
        template = json.loads(POOL.read_text())
        made = await KubernetesWorkerJobConfiguration.from_template_and_values(template, values)
        made.prepare_for_flow_run(FlowRun(flow_id=uuid4(), name="train mine"))
        async with ApiClient() as client:  # what it does not know is lost on the way back
            read = client._ApiClient__deserialize(made.job_manifest, "V1Job")
            return made.job_manifest, client.sanitize_for_serialization(read)

    return lambda **values: asyncio.run(make(values))


def test_the_pool_gives_a_run_gpus_shared_memory_and_room(job_of):
    job, known = job_of(gpus=4, node_selector={"gpu": "h100"}, image="mine:1")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    container["resources"]["limits"]["nvidia.com/gpu"] = "4"  # was 4, which Kubernetes takes too
    assert known == job, "every field is one that Kubernetes has"
    assert container["image"] == "mine:1"
    assert pod["nodeSelector"] == {"gpu": "h100"}
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    assert volumes["shared-memory"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"shared-memory": "/dev/shm", "work": "/scratch"}
    assert {"name": "ICLORA_WORK", "value": "/scratch"} in container["env"]


def test_a_real_server_takes_the_pool(operations):
    for more in ([], ["--overwrite"]):
        subprocess.run(
            [Path(sys.executable).with_name("prefect"), "work-pool", "create", "gpu-cluster",
             "--type", "kubernetes", "--base-job-template", str(POOL), *more],
            env=operations.environment,
            cwd=operations.folder,
            check=True,
        )  # fmt: skip
