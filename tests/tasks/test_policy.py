"""Retries that help, GPUs taken in turns, secrets that stay out of parameters."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time

import pytest
from prefect import flow
from prefect.blocks.system import Secret

from iclora.errors import BadConfig, BadInput
from iclora.locks import file_lock
from iclora.presets import load_config
from tasks import gpu_locks, prefect_defaults
from tasks.environment import load_secrets
from tasks.subprocess_task import ChildTimeout
from tasks.training import LAUNCH, launcher


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(
    ("error", "tries"), [(OSError("the disk"), 3), (BadInput("no film"), 1), (ChildTimeout("x"), 1)]
)
def test_a_persons_mistake_is_not_tried_again(error, tries):
    count = 0

    @prefect_defaults.stage_task(retry_delay_seconds=0)
    def fails():
        nonlocal count
        count += 1
        raise error

    @flow
    def run():
        fails()

    with pytest.raises(type(error)):
        run()
    assert count == tries


@pytest.mark.parametrize(
    ("visible", "held"), [("0,2", ["gpu-0.lock", "gpu-2.lock"]), ("", []), ("-1", [])]
)
def test_a_lock_for_every_visible_gpu_and_none_for_a_cpu(
    monkeypatch, tmp_path, visible, held, is_locked
):
    monkeypatch.setenv(gpu_locks.LOCKS, str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with gpu_locks.acquire_devices("a test", "run a") as locks:
        files = sorted(tmp_path.rglob("*.lock"))
        assert [file.name for file in files] == held
        assert all(map(is_locked, files))
        assert len(locks) == len(held)
    assert not any(map(is_locked, files))


def test_two_checkouts_of_one_user_take_turns_on_a_gpu(monkeypatch, tmp_path, is_locked):
    """Unless their environment says otherwise, whatever folders they work in."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.delenv(gpu_locks.LOCKS)
    with gpu_locks.acquire_devices("a test", "run a"):
        (file,) = tmp_path.rglob("*.lock")
        assert is_locked(file)
        assert file.read_text() == "run a"


def test_who_comes_second_waits_and_says_for_whom(tmp_path, caplog):
    order = []

    def second():
        with file_lock(tmp_path / "lock", "the second"):
            order.append("second")

    with file_lock(tmp_path / "lock", "the first", "run first"):
        thread = threading.Thread(target=second)
        thread.start()
        while not caplog.records:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "the second waits for run first" in caplog.text


def test_gpu_hours_count_every_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert gpu_locks.gpu_hours(1800) == "1.00 GPU hours"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_locks.gpu_hours(1800) == "0.00 GPU hours"


def test_a_process_for_every_gpu_or_what_the_environment_says(monkeypatch):
    ours = load_config("miniature").train
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert "--num_processes 2" in " ".join(launcher(ours))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "--cpu" in launcher(ours)
    monkeypatch.setenv(LAUNCH, "--config_file 'my fsdp.yaml'")
    assert launcher(ours)[-3:] == ["--config_file", "my fsdp.yaml", "-m"]
    theirs = load_config("miniature", {"train.trainer": "ai-toolkit"}).train
    assert launcher(theirs) == [sys.executable, "-m"], "AI-Toolkit refuses several processes"


def test_rays_nodes_are_told_where_the_store_is_and_no_secret(monkeypatch):
    pytest.importorskip("prefect_ray", reason="needs the extra ray")
    monkeypatch.setenv(prefect_defaults.RUNNER_ENV, "head:6379")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store:9000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the secret")
    monkeypatch.setenv("HF_TOKEN", "the secret")
    sent = prefect_defaults.task_runner().init_kwargs["runtime_env"]
    assert sent["env_vars"]["AWS_ENDPOINT_URL_S3"] == "http://store:9000"
    assert "the secret" not in str(sent)


def test_the_longest_time_is_hours(monkeypatch):
    assert prefect_defaults.time_limit() == 0
    monkeypatch.setenv(prefect_defaults.HOURS_ENV, "1.5")
    assert prefect_defaults.time_limit() == 5400
    monkeypatch.setenv(prefect_defaults.HOURS_ENV, "long")
    with pytest.raises(BadConfig, match="no number of hours"):
        prefect_defaults.time_limit()


@pytest.mark.usefixtures("prefect")
def test_a_secret_comes_from_the_environment_or_else_from_its_block(monkeypatch, caplog):
    config = load_config(
        "miniature",
        {"caption.captioner.kind": "server", "caption.captioner.api_key_env": "MY_VLM_KEY"},
    )
    Secret(value="from the block").save("my-vlm-key")
    monkeypatch.setenv("MY_VLM_KEY", "from the environment")
    load_secrets("./store", config)
    assert os.environ["MY_VLM_KEY"] == "from the environment"
    monkeypatch.delenv("MY_VLM_KEY")
    load_secrets("./store", config)
    assert os.environ.pop("MY_VLM_KEY") == "from the block"
    assert "from the block" not in caplog.text
