"""As a person operates it: `make up`, the one command, switches, a stop, a zombie, `make down`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime

import httpx
import psutil
import pytest
from stack import wait

from iclora.dataset import open_dataset
from iclora.dataset.verify import verify_dataset
from iclora.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CHAIN = "iclora: train when a dataset is published"
EVALUATE = "iclora: evaluate when an adapter is trained"
ZOMBIE = """
import time
from prefect import flow, tags

@flow(name="zombie")
def zombie():
    print("ready", flush=True)
    time.sleep(3600)

with tags("iclora"):
    zombie()
"""


DOOMED = """
from prefect import flow, tags

@flow(name="doomed")
def doomed():
    print("ready", flush=True)
    input()
    raise SystemError("as foreseen")

with tags("iclora"):
    doomed()
"""


def begin(stack, name, program):
    """A run by hand, which has said that it is ready; its process and its id."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=stack.checkout,
        env=stack.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "ready"
    flows = {"name": {"any_": [name]}}
    newest, *_ = stack.post("flow_runs/filter", flows=flows, sort="START_TIME_DESC")
    return process, newest


@pytest.fixture(scope="module")
def zombie(stack):
    """A run whose process and machine are gone without a word; the id of the run."""
    process, run = begin(stack, "zombie", ZOMBIE)
    process.kill()
    process.wait()
    return run["id"]


def told(stack):
    """The notices, as their page shows them."""
    return httpx.get(f"{stack.pages}/notices").text


def test_the_users_own_command_builds_a_dataset(stack, zombie, films):
    stack.make("up")  # again: nothing is doubled
    sources = json.dumps([str(films / "1.mp4"), str(films / "2.mp4")])
    command = ["prefect", "deployment", "run", "build-dataset", "--watch"]
    stack.run([*command, "--param", f"sources={sources}", "--param", "name=users"])
    (run,) = stack.runs("build-dataset")
    assert run["state_name"] == "Completed"
    assert verify_dataset(open_dataset(Store(str(stack.store)), "users")).ok
    shown = stack.artifacts(run["id"])
    assert {"build-users", "lineage-users", "ledger-users", "preview-users"} <= set(shown)
    stages = ("sources", "ingest", "quality", "sets", "choose", "stitch", "caption")
    assert {f"{stage}-users" for stage in stages} <= set(shown)
    tasks = stack.post("task_runs/filter", task_runs={"flow_run_id": {"any_": [run["id"]]}})
    assert {"score frames of 1.mp4", "caption 2.mp4"} <= {task["name"] for task in tasks}
    assert shown["build-users"]["data"] == 100
    assert "tokens read" in shown["build-users"]["description"]
    page = shown["lineage-users"]["data"]
    assert "![samples](data:image/jpeg;base64," in page
    links = [part.partition(")")[0] for part in page.split("](http")[1:]]
    assert len(links) == 3
    for link in links:
        assert httpx.get(f"http{link}").is_success


def test_what_people_set_survives_make_up_and_is_told(stack):
    (weekly,) = stack.deployment("retrain")["schedules"]
    place = f"deployments/{stack.deployment('retrain')['id']}/schedules/{weekly['id']}"
    stack.switch(place, active=True)
    stack.switch("work_pools/iclora-gpu", is_paused=True)
    stack.add_schedule("retrain", "mine", active=False)
    stack.switch(f"automations/{stack.automation(CHAIN)['id']}", enabled=True)

    flow = stack.checkout / "flows" / "retrain.py"
    flow.write_text(flow.read_text() + "# changed\n")
    said = stack.make("up")
    assert "retrain: schedule weekly: active stays true; declared: false" in said
    assert "retrain: schedule mine stays, although it is not declared" in said
    assert f"train-adapter: automation {CHAIN}: enabled stays true; declared: false" in said
    assert "work pool iclora-gpu: is_paused stays true; declared: false" in said
    assert stack.get("work_pools/iclora-gpu")["is_paused"]
    stack.switch("work_pools/iclora-gpu", is_paused=False)
    schedules = {one["slug"]: one for one in stack.deployment("retrain")["schedules"]}
    assert {slug: one["active"] for slug, one in schedules.items()} == {
        "weekly": True,
        "mine": False,
    }
    assert stack.automation(CHAIN)["enabled"]
    stack.switch(
        f"deployments/{stack.deployment('retrain')['id']}/schedules/{schedules['weekly']['id']}",
        active=False,
    )


def test_a_published_dataset_starts_a_training_when_that_is_switched_on(stack):
    stack.switch(f"automations/{stack.automation(CHAIN)['id']}", enabled=True)
    before = {run["id"] for run in stack.runs("train-adapter")}
    event = {
        "event": "dataset.published",
        "id": "00000000-0000-4000-8000-000000000001",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": "dataset.users", "prefect.resource.name": "users"},
        "payload": {"name": "users", "dataset": "users@none", "store": str(stack.store)},
    }
    again = {**event, "id": "00000000-0000-4000-8000-000000000002"}
    stack.post_events(event, again)  # as when Prefect finds its database locked, and repeats it
    wait(lambda: len(stack.runs("train-adapter")) > len(before), 60)
    stack.switch(f"automations/{stack.automation(CHAIN)['id']}", enabled=False)
    (run,) = [run for run in stack.runs("train-adapter") if run["id"] not in before]
    assert run["parameters"]["dataset"] == "users@none"
    assert run["parameters"]["store"] == str(stack.store)
    assert stack.until(run["id"], "Failed") == "Failed"  # there is no such version
    ended = stack.get(f"flow_runs/{run['id']}")
    assert "users has no version none" in ended["state"]["message"]
    said = f"{ended['name']} is Failed"
    wait(lambda: said in told(stack), 120)
    wait(lambda: stack.events("prefect.flow-run.Failed"), 60)  # kept some seconds later
    (failed,) = stack.events("prefect.flow-run.Failed")
    stack.post_events({**failed, "id": "00000000-0000-4000-8000-000000000003", "follows": None})
    wait(lambda: len(stack.events("prefect.flow-run.Failed")) > 1, 60)
    time.sleep(5)
    assert told(stack).count(said) == 1


def test_what_ends_after_a_restart_of_the_server_is_told_at_once(stack):
    process, run = begin(stack, "doomed", DOOMED)
    server = psutil.Process(int((stack.checkout / ".operate/server.pid").read_text()))
    for one in (*server.children(recursive=True), server):
        one.kill()
    server.wait()
    stack.make("up")
    process.communicate("end\n")
    wait(lambda: f"{run['name']} is Failed" in told(stack), 60)


def test_a_trained_adapter_is_evaluated_when_that_is_switched_on(stack):
    """One switch, one training by hand, and the report is there."""
    stack.switch(f"automations/{stack.automation(EVALUATE)['id']}", enabled=True)
    before = {run["id"] for run in stack.runs("evaluate-adapter")}
    preset = stack.preset("chained", 10, persons=2)
    training = stack.start("train-adapter", dataset="users", name="chained", preset=preset)
    stack.until(training, "Completed")
    assert stack.artifacts(training)["train-chained"]["data"] == 100
    wait(lambda: len(stack.runs("evaluate-adapter")) > len(before), 60)
    stack.switch(f"automations/{stack.automation(EVALUATE)['id']}", enabled=False)
    (run,) = [run for run in stack.runs("evaluate-adapter") if run["id"] not in before]
    adapter = run["parameters"]["adapter"]
    assert run["parameters"]["promote"] is True
    stack.until(run["id"], "Completed")
    assert adapter in {one["payload"]["adapter"] for one in stack.events("adapter.trained")}
    shown = stack.artifacts(run["id"])
    assert shown[f"evaluate-{adapter.replace('@', '-')}"]["data"] == 100
    page = shown["lineage-chained"]["data"]
    report = page.partition("[the report](")[2].partition(")")[0]
    assert "<html" in httpx.get(report).text


def test_a_cancelled_training_saves_and_the_next_run_goes_on(stack):
    parameters = {"dataset": "users", "name": "stopped", "preset": stack.preset("long", 400)}
    run = stack.start("train-adapter", **parameters)
    work = stack.store / ".work" / "training"
    journal = "stopped-*/metrics.jsonl"
    wait(lambda: any(file.stat().st_size for file in work.glob(journal)), 300)
    second = stack.start("train-adapter", **parameters)
    stack.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    stack.until(run, "Cancelled", seconds=120)
    (folder,) = work.glob("stopped-*")
    saved = sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))
    assert saved[-1] > 0
    wait(lambda: f"going on after step {saved[-1]}" in stack.log(second), 400)
    assert stack.state(run) == "Cancelled"
    stack.post(f"flow_runs/{second}/set_state", state={"type": "CANCELLING"})
    stack.until(second, "Cancelled", seconds=120)


def test_a_run_that_fell_silent_is_marked_crashed_and_told(stack, zombie):
    stack.until(zombie, "Crashed", seconds=240)
    name = stack.get(f"flow_runs/{zombie}")["name"]
    wait(lambda: f"{name} is Crashed" in told(stack), 120)
