"""A schedule that retrains, the word of a person before promotion, and what stays when it ends.

Production starts with a spoilt adapter that somebody promoted by hand, so that there is something
that a short training of the miniature surely beats.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from stack import Stack, wait

from iclora.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FILMS = 5
SPOILT = {"train.optimizer.lr": 0.5, "train.steps": 8, "train.batch": 2}


@pytest.fixture(scope="module")
def watched(stack: Stack, films, tmp_path_factory):
    """What retrainings are asked for: a watched folder, and a word before promotion."""
    folder = tmp_path_factory.mktemp("watched")
    for seed in range(FILMS):
        (folder / f"{seed}.mp4").hardlink_to(films / f"{seed}.mp4")
    preset = stack.preset("quick", 10)
    sources = {"sources": [str(folder)], "preset": preset, "name": "watched"}
    stack.until(stack.start("build-dataset", **sources), "Completed")
    # Its settings become the rule, by which the others are measured.
    spoilt = {"dataset": "watched", "preset": preset, "name": "watched", "overrides": SPOILT}
    stack.until(stack.start("train-adapter", **spoilt), "Completed")
    stack.run(["iclora", "promote", "watched", "--force", "--store", str(stack.store)])
    return {**sources, "approve": True}


def line(stack: Stack, file: str) -> str:
    return Store(str(stack.store)).read(f"adapters/watched/{file}").decode().strip()


def asked(stack: Stack, run: str) -> str:
    """What a paused run asks, as the UI shows it."""
    form = stack.get(f"flow_runs/{run}")["state"]["state_details"]["run_input_keyset"]
    return stack.get(f"flow_runs/{run}/input/{form['description']}")


def the_event(stack: Stack, name: str, version: str) -> Any:
    """The only event of a name that is about a version; other tests' adapters have theirs."""

    def about() -> list[Any]:
        found = stack.events(name)
        return [one for one in found if one["payload"]["adapter"] == f"watched@{version}"]

    wait(about, 60)
    (event,) = about()
    return event


def answer(stack: Stack, run: str, *, promote: bool) -> None:
    stack.post(f"flow_runs/{run}/resume", run_input={"promote": promote})
    stack.until(run, "Completed")


def test_a_schedule_retrains_end_to_end_and_a_person_refuses(stack, watched):
    spoilt = line(stack, "CHAMPION")
    # The server looks for what is due once a minute.
    soon = (datetime.now(UTC) + timedelta(seconds=100)).isoformat()
    stack.add_schedule("retrain", "soon", schedule={"anchor_date": soon}, parameters=watched)
    wait(lambda: stack.runs("retrain", "Running"), 300)
    (run,) = stack.runs("retrain", "Running")
    assert run["auto_scheduled"]
    stack.until(run["id"], "Paused")
    version = line(stack, "LATEST")
    question = asked(stack, run["id"])
    assert f"Promote watched@{version}?" in question
    assert f"that of watched@{spoilt}" in question, "the reason"
    assert "](data:image/jpeg;base64," in question, "a sheet"
    assert "[the report](http" in question
    answer(stack, run["id"], promote=False)
    assert line(stack, "CHAMPION") == spoilt
    told = the_event(stack, "adapter.refused", version)
    assert told["payload"]["reason"] == "refused by a person"

    page = stack.artifacts(run["id"])["lineage-watched"]["data"]
    assert f"watched@{version}" in page
    report = page.partition("[the report](")[2].partition(")")[0]
    assert "<html" in httpx.get(report).text
    trained = stack.subflow(run["id"], "train-adapter")
    assert set(stack.get(f"flow_runs/{trained}")["tags"]) == {"iclora", "gpu"}
    training = stack.artifacts(trained)
    assert training["train-watched"]["data"] == 100
    assert "validation" in training["train-watched"]["description"]
    assert training["sheet-watched"]["data"].startswith("data:image/jpeg;base64,")
    assert json.loads(training["losses-watched"]["data"])[-1]["step"] == 10


def test_without_new_footage_it_ends_in_seconds_and_says_so(stack, watched):
    again = stack.start("retrain", **watched)
    stack.until(again, "Completed")
    last, first = stack.runs("retrain", "Completed")
    assert last["id"] == again
    wait(lambda: "Nothing new" in stack.log(again), 60)  # the last lines come after the end
    assert "Nothing new" in stack.artifacts(again)["lineage-watched"]["description"]
    assert last["total_run_time"] < 0.5 * first["total_run_time"]


def test_new_footage_alone_is_processed_and_an_answer_that_never_came_is_asked_for_again(
    stack, watched, films
):
    store = Store(str(stack.store))
    before, ingested = line(stack, "LATEST"), set(store.listdir("stages/ingest"))
    added = films / f"{FILMS}.mp4"
    (Path(watched["sources"][0]) / added.name).hardlink_to(added)
    run = stack.start("retrain", **watched)
    stack.until(run, "Paused")
    (new,) = set(store.listdir("stages/ingest")) - ingested
    assert added.name in store.read(f"stages/ingest/{new}/manifest.json").decode()
    version = line(stack, "LATEST")
    assert version != before

    stack.make("down")
    stack.make("up")
    again = stack.start("retrain", **watched)
    stack.until(again, "Paused")
    assert f"Promote watched@{version}?" in asked(stack, again)
    answer(stack, again, promote=True)
    assert line(stack, "CHAMPION") == version
    the_event(stack, "adapter.promoted", version)
    assert "it is the champion" in stack.artifacts(again)["lineage-watched"]["description"]
    last = stack.start("retrain", **watched)
    stack.until(last, "Completed")
    wait(lambda: "Nothing new" in stack.log(last), 60)
    notices = stack.checkout / ".operate" / "notices.jsonl"
    assert "Paused" in notices.read_text()
    stack.until(run, "Crashed", seconds=300)
    ended = f"{stack.get(f'flow_runs/{run}')['name']} is Crashed"
    wait(lambda: ended in notices.read_text(), 60)  # although the server forgot what it follows
