"""Two processes follow one with the same global batch."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from training_child import (
    fail_together,
    fall_ill_together,
    free_port,
    start_together,
    train_together,
)
from training_config import with_train

from iclora.errors import BadConfig
from iclora.store import Store
from iclora.train import train_adapter
from iclora.training.distributed import DistEnv, on_cpu, require_shardable
from iclora.training.metrics import read_metrics
from schemas.training import TrainParams

FSDP = Path(__file__).parents[2] / "docs" / "examples" / "fsdp.yaml"


@pytest.fixture
def together(tmp_path):
    """Has processes work as a team; gives what each gave or raised."""

    def run(work, *arguments, environments=({}, {})):
        processes = start_together(tmp_path, work, *arguments, environments=environments)
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0] * len(processes)
        files = [tmp_path / f"{rank}.json" for rank in range(len(processes))]
        return [json.loads(file.read_text()) for file in files]

    return run


@pytest.fixture
def alone(tmp_path, store):
    """A store of its own with the same datasets, for the run of one process."""
    folder = tmp_path / "alone"
    folder.mkdir()
    (folder / "datasets").symlink_to(Path(store.root) / "datasets")
    return Store(str(folder))


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


def test_two_processes_follow_one(store, alone, dataset, config, together):
    config = with_train(config, batch=3, lora={"save_dtype": "fp32"}, steps=6)
    train_adapter(alone, "demo", config, "mine")
    together(train_together, store.url, [config.to_text()])
    follows(store, alone, 2)


def test_a_sharded_base_follows_a_whole_one(store, alone, publish, paint, config, together):
    """Shapes are mixed, so the two processes have different numbers of micro-batches."""
    samples = [paint(n) for n in range(3)] + [paint(n, heights=(32, 32)) for n in (3, 4)]
    publish(store, [*samples, paint(9, split="val")])
    config = with_train(
        config,
        batch=3,
        lora={"save_dtype": "fp32"},
        steps=6,
        activation_checkpointing=0.5,
        sample_every=6,
    )
    train_adapter(alone, "demo", config, "mine")
    divided = {"ACCELERATE_USE_FSDP": "true"}
    together(train_together, store.url, [config.to_text()], environments=[divided, divided])
    follows(store, alone, 2)
    sheets = [Path(place.root).glob("adapters/mine/*/renders/*.jpg") for place in (store, alone)]
    assert len([*sheets[0]]) == len([*sheets[1]]) == 1


@pytest.fixture
def machines(tmp_path):
    """Environments of two machines that share the store and nothing else."""
    return [{"ICLORA_WORK": str(tmp_path / f"machine-{rank}")} for rank in range(2)]


def test_a_machine_without_checkpoints_goes_on_from_those_of_the_first(
    store, alone, dataset, config, together, machines, monkeypatch
):
    class PowerCut(BaseException):
        """Nothing of ours handles it."""

    def cut(report):
        if report.step == 3:
            raise PowerCut

    config = with_train(config, steps=6, lora={"save_dtype": "fp32"})
    whole = train_adapter(alone, "demo", config, "mine")
    with monkeypatch.context() as first:
        first.setenv("ICLORA_WORK", machines[0]["ICLORA_WORK"])
        with pytest.raises(PowerCut):
            train_adapter(Store(store.url), "demo", config, "mine", progress=cut)
    said = together(train_together, store.url, [config.to_text()], environments=machines)
    assert said == [f"{whole.version} after 2"] * 2
    assert losses(store) == pytest.approx(losses(alone), rel=1e-4)


def test_two_machines_go_back_to_the_weights_of_the_first(
    store, dataset, config, together, machines
):
    config = with_train(config, validate_every=0, steps=5)
    first, second = together(fall_ill_together, store.url, config.to_text(), environments=machines)
    assert first[:2] == [5, 1]
    assert second == first


def test_two_machines_with_different_settings_are_told_the_difference(
    store, dataset, config, together, machines
):
    texts = [config.to_text(), with_train(config, seed=8).to_text()]
    first, second = together(train_together, store.url, texts, environments=machines)
    assert (first[0], first[2]) == ("BadConfig", 2)
    assert "process 1 on " in first[1]
    assert f"(config.train.seed: {config.train.seed} -> 8)" in first[1]
    assert (second[0], second[2]) == ("SaidElsewhere", 2)
    assert not store.exists("adapters")


@pytest.mark.parametrize(
    ("faults", "first", "second"),
    [
        ({0: "bad", 1: "bad"}, ["BadConfig", "too little memory at rank 0", 2], "SaidElsewhere"),
        (
            {1: "bad"},
            ["UserError", r"process 1 on \S+: too little memory at rank 1", 2],
            "SaidElsewhere",
        ),
        ({1: "bug"}, ["IcloraError", r"process 1 on \S+: ZeroDivisionError: ", 1], "ZeroDivision"),
        ({0: "bug"}, ["ZeroDivisionError", "", None], "SaidElsewhere"),
    ],
)
def test_an_error_of_one_ends_all_and_the_first_says_it(together, faults, first, second):
    (kind, sentence, code), other = together(fail_together, faults)
    assert [kind, code] == [first[0], first[2]]
    assert re.fullmatch(first[1], sentence)
    assert other[0].startswith(second)


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
    tmp_path, store, alone, dataset, config, how, processes
):
    config = with_train(config, batch=3, lora={"save_dtype": "fp32"})
    file = tmp_path / "config.json"
    file.write_text(config.to_text())
    subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *how,
         "--main_process_port", str(free_port()), "-m", "iclora", "train", "demo",
         "--config", str(file), "--name", "mine", "--store", store.url],
        check=True,
    )  # fmt: skip
    train_adapter(alone, "demo", config, "mine")
    follows(store, alone, processes)


@pytest.mark.slow
def test_sigterm_to_the_command_saves_first(store, dataset, config, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(with_train(config, steps=400, save_every=400).to_text())
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
