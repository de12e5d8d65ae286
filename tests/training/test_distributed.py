"""Two processes follow one with the same global batch."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from iclora.errors import BadConfig
from iclora.store import Store
from iclora.training import train_adapter
from iclora.training.distributed import DistEnv, on_cpu
from iclora.training.metrics import read_metrics
from iclora.training.sharding import require_shardable
from schemas.training import TrainParams

sys.path.insert(0, str(Path(__file__).parent))  # for the processes that import their work by name
from training_child import FORKS, work_together

FSDP = Path(__file__).parents[2] / "docs" / "examples" / "fsdp.yaml"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def together(url, config, count, **environment):
    """Trains with so many processes, as ``accelerate launch`` would start them."""
    port = str(free_port())
    processes = [
        FORKS.Process(
            target=work_together, args=(rank, count, port, url, config.to_text(), environment)
        )
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * count


def weights(store):
    (file,) = Path(store.root).glob("adapters/mine/*/mine-raw.safetensors")
    return safetensors.torch.load_file(file)


def losses(store):
    (file,) = Path(store.root).glob("adapters/mine/*/metrics.jsonl")
    return [row["loss"] for row in read_metrics(file) if "loss" in row]


def record(store):
    (file,) = Path(store.root).glob("adapters/mine/*/run.json")
    return json.loads(file.read_text())


def follows(store, alone, processes):
    """So many processes shared every batch of the run that was alone, within rounding."""
    many, one = record(store), record(alone)
    assert (many["processes"], one["processes"]) == (processes, 1)
    # Tokens are summed over the processes: each doing the whole batch would double them.
    assert many["counts"]["tokens"] == one["counts"]["tokens"] > 0
    assert losses(store) == pytest.approx(losses(alone), rel=1e-4)
    ours, theirs = weights(store), weights(alone)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=2e-5, rtol=1e-3)


def test_two_processes_follow_one(tmp_path, store, dataset, config):
    lora = config.train.lora.model_copy(update={"save_dtype": "fp32"})
    train = config.train.model_copy(update={"batch": 3, "lora": lora, "steps": 6})
    config = config.model_copy(update={"train": train})
    alone = Store(str(tmp_path / "alone"))
    Path(alone.root).mkdir()
    (Path(alone.root) / "datasets").symlink_to(Path(store.root) / "datasets")
    train_adapter(alone, "demo", config, "mine")
    together(store.url, config, 2)
    follows(store, alone, 2)


def test_a_sharded_base_follows_a_whole_one(tmp_path, store, publish, paint, config):
    """Shapes are mixed, so the two processes have different numbers of micro-batches."""
    samples = [paint(n) for n in range(3)] + [paint(n, heights=(32, 32)) for n in (3, 4)]
    publish(store, [*samples, paint(9, split="val")])
    lora = config.train.lora.model_copy(update={"save_dtype": "fp32"})
    changes = {
        "batch": 3,
        "lora": lora,
        "steps": 6,
        "activation_checkpointing": 0.5,
        "sample_every": 6,
    }
    config = config.model_copy(update={"train": config.train.model_copy(update=changes)})
    alone = Store(str(tmp_path / "alone"))
    Path(alone.root).mkdir()
    (Path(alone.root) / "datasets").symlink_to(Path(store.root) / "datasets")
    train_adapter(alone, "demo", config, "mine")
    together(store.url, config, 2, ACCELERATE_USE_FSDP="true")
    follows(store, alone, 2)
    sheets = [Path(place.root).glob("adapters/mine/*/renders/*.jpg") for place in (store, alone)]
    assert len([*sheets[0]]) == len([*sheets[1]]) == 1


def test_what_a_sharded_base_cannot_serve_is_refused():
    four = DistEnv()
    four.world_size, four.is_sharded = 4, True
    require_shardable(TrainParams(batch=4), four)
    with pytest.raises(BadConfig, match=r"train\.batch = 3 is less than the 4 processes"):
        require_shardable(TrainParams(batch=3), four)
    with pytest.raises(BadConfig, match="set it to 'dense'"):
        require_shardable(TrainParams(batch=4, weights="fp8"), four)


def test_the_documented_configuration_is_one_that_accelerate_reads():
    from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

    read = load_config_from_file(str(FSDP))
    assert isinstance(read, ClusterConfig)
    assert (read.distributed_type.value, read.fsdp_config["fsdp_version"]) == ("FSDP", 2)


@pytest.mark.parametrize(("said", "stays"), [("False", False), ("false", False), ("True", True)])
def test_only_a_switched_on_cpu_keeps_a_run_off_the_gpu(monkeypatch, said, stays):
    """``accelerate launch`` on one GPU writes ACCELERATE_USE_CPU=False."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", said)
    assert on_cpu() is stays
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert on_cpu()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("how", "processes"),
    [
        (("--multi_gpu", "--num_processes", "2"), 2),
        (("--config_file", str(FSDP)), 2),
        (("--cpu", "--num_processes", "2"), 1),  # what accelerate makes of --cpu: one process
    ],
)
def test_accelerate_launch_starts_a_team_with_one_batch(
    tmp_path, store, dataset, config, how, processes
):
    lora = config.train.lora.model_copy(update={"save_dtype": "fp32"})
    train = config.train.model_copy(update={"batch": 3, "lora": lora})
    config = config.model_copy(update={"train": train})
    file = tmp_path / "config.json"
    file.write_text(config.to_text())
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *how,
         "--main_process_port", str(free_port()), "-m", "iclora", "train", "demo",
         "--config", str(file), "--name", "mine", "--store", store.url],
        check=True,
    )  # fmt: skip
    alone = Store(str(tmp_path / "alone"))
    Path(alone.root).mkdir()
    (Path(alone.root) / "datasets").symlink_to(Path(store.root) / "datasets")
    train_adapter(alone, "demo", config, "mine")
    follows(store, alone, processes)


@pytest.mark.slow
def test_sigterm_to_the_command_saves_first(store, dataset, config, tmp_path):
    train = config.train.model_copy(update={"steps": 400, "save_every": 400})
    file = tmp_path / "config.json"
    file.write_text(config.model_copy(update={"train": train}).to_text())
    process = subprocess.Popen(
        [sys.executable, "-m", "iclora", "train", "demo", "--config", str(file),
         "--name", "mine", "--store", store.url],
    )  # fmt: skip
    end = time.monotonic() + 120
    journals = (store.work_folder / "training").glob
    while not any(read_metrics(path) for path in journals("mine-*/metrics.jsonl")):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    (folder,) = (store.work_folder / "training").glob("mine-*/checkpoints")
    assert len(list(folder.glob("step-*"))) == 2  # the start and the stop
