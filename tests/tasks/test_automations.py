"""The automations that watch over our runs, and over nobody else's."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from datetime import timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import (
    AwaitingRetry,
    Cancelling,
    Failed,
    Late,
    Paused,
    Running,
    Suspended,
)

from iclora.store import Store
from tasks import automations, environment
from tasks.prefect_defaults import TAG
from tasks.static_server import PageServer

pytestmark = pytest.mark.usefixtures("prefect")

BLOCK = (automations.BLOCK, "custom-webhook")


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A server on which nothing of ours was prepared."""
    monkeypatch.delenv(automations.NOTIFY, raising=False)
    monkeypatch.setenv(environment.PAGES_ENV, "http://127.0.0.1:1")
    with get_client(sync_client=True) as made:
        for one in made.read_automations():
            made.delete_automation(one.id)
        for variable in made.read_variables():
            made.delete_variable_by_name(variable.name)
        with contextlib.suppress(ObjectNotFound):
            made.delete_block_document(made.read_block_document_by_name(*BLOCK).id)
        yield made


def read(client, name=automations.ZOMBIES):
    (found,) = client.read_automations_by_name(name)
    return found


def address(client):
    """Where notices go."""
    return client.read_block_document_by_name(*BLOCK).data["url"]


def edit(client, url):
    """What a person does in the UI."""
    place = client.read_block_document_by_name(*BLOCK).id
    client.update_block_document(place, BlockDocumentUpdate(data={"url": url}))


def begin(client, tags, *states):
    """A run that went through these states; its id."""
    run = client.create_flow_run(someones, tags=tags)
    for state in states:
        client.set_flow_run_state(run.id, state, force=True)
    time.sleep(0.3)  # of events that come at once a locked SQLite loses some
    return run.id


@flow(name="someones")
def someones():
    """A flow that is never called: its runs are written down as a server sees them."""


def states(client, runs):
    return {name: client.read_flow_run(run).state.name for name, run in runs.items()}


def test_silent_runs_of_ours_are_crashed_and_told_and_nothing_else_is(
    client, tmp_path, monkeypatch
):
    notices = tmp_path / "notices.jsonl"
    with PageServer(0, Store(str(tmp_path)), notices) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        monkeypatch.setenv(environment.PAGES_ENV, f"http://127.0.0.1:{pages.server_port}")
        automations.prepare_automations(client)
        client.delete_automation(read(client).id)
        client.create_automation(automations.zombie_automation(timedelta(seconds=10)))
        ours = [TAG]
        waiting = {
            "pauses": Paused(timeout_seconds=600),
            "is suspended": Suspended(timeout_seconds=600),
            "tries again": AwaitingRetry(),
            "is late": Late(),
            "is cancelled": Cancelling(),
        }
        runs = {name: begin(client, ours, Running(), state) for name, state in waiting.items()}
        runs["is another's"] = begin(client, ["other"], Running())
        runs["is another's and failed"] = begin(client, [], Running(), Failed())
        before = states(client, runs)
        runs["went silent"] = begin(client, ours, Running())
        runs["went silent again"] = begin(client, ours, AwaitingRetry(), Running())
        deadline = time.monotonic() + 100
        silent = {name: run for name, run in runs.items() if "silent" in name}
        while set(states(client, silent).values()) != {"Crashed"}:
            assert time.monotonic() < deadline, states(client, runs)
            time.sleep(1)
        expected = {client.read_flow_run(run).name for run in silent.values()}
        expected.add(client.read_flow_run(runs["pauses"]).name)
        while told(notices) != expected:
            assert time.monotonic() < deadline, (told(notices), expected)
            time.sleep(1)
        pages.shutdown()
    assert states(client, runs) == before | dict.fromkeys(silent, "Crashed")


def told(notices):
    """The names of the runs of which people were told."""
    lines = notices.read_text().splitlines() if notices.exists() else []
    texts = [json.loads(json.loads(line)["notice"])["text"] for line in lines]
    return {text.partition(" is ")[0] for text in texts}


def test_heartbeats_may_be_missed_for_as_long_as_a_server_needs_to_start():
    for seconds in (30, 180):
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: seconds}):
            silence = automations.zombie_automation().trigger.within.total_seconds()
        assert silence >= 3 * seconds
        assert silence >= 180


def test_what_is_up_to_date_is_left_alone(client, monkeypatch):
    """An update would lose sight of the runs that are listened to."""
    automations.prepare_automations(client)
    sent = []
    for change in ("create", "update", "delete"):
        monkeypatch.setattr(
            type(client), f"{change}_automation", lambda _self, *given: sent.append(given)
        )
    assert automations.prepare_automations(client) == []
    assert sent == []


def test_what_changed_is_brought_up_to_date_and_stays_switched_off(client):
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}):
        automations.prepare_automations(client)
    before = read(client)
    client.pause_automation(before.id)
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 60}):
        kept = automations.prepare_automations(client)
    after = read(client)
    assert after.trigger.within == 2 * before.trigger.within
    assert (after.id, after.enabled) == (before.id, False)
    assert kept == [f"automation {automations.ZOMBIES}: enabled stays false; declared: true"]


def test_what_people_edited_or_deleted_stays_so(client):
    automations.prepare_automations(client)
    client.delete_automation(read(client).id)
    notices = read(client, automations.NOTICES)
    trigger = notices.trigger.model_copy(update={"expect": {"prefect.flow-run.Failed"}})
    wanted = automations.notice_automation(notices.actions[0].block_document_id)
    client.update_automation(notices.id, wanted.model_copy(update={"trigger": trigger}))
    kept = automations.prepare_automations(client)
    assert client.read_automations_by_name(automations.ZOMBIES) == []
    assert read(client, automations.NOTICES).trigger.expect == {"prefect.flow-run.Failed"}
    assert len(kept) == 2
    assert "trigger stays as it was set" in kept[0]
    assert "was deleted and stays so" in kept[1]


def test_one_of_an_older_version_is_brought_up_to_date(client):
    """It remembered nothing, and watched over everybody's runs."""
    automations.prepare_automations(client)
    old = automations.zombie_automation()
    old.trigger.match_related = {}
    client.update_automation(read(client).id, old.model_copy(update={"enabled": False}))
    for variable in client.read_variables():
        client.delete_variable_by_name(variable.name)
    automations.prepare_automations(client)
    found = read(client)
    assert found.trigger.match_related.root == {"prefect.resource.id": "prefect.tag.iclora"}
    assert not found.enabled


def test_notices_go_where_the_environment_says_unless_a_person_changed_that(client, monkeypatch):
    automations.prepare_automations(client)
    assert address(client) == "http://127.0.0.1:1/notices"
    monkeypatch.setenv(automations.NOTIFY, "http://hook/1")
    assert automations.prepare_automations(client) == []
    assert address(client) == "http://hook/1"
    edit(client, "http://hook/mine")
    monkeypatch.setenv(automations.NOTIFY, "http://hook/2")
    (sentence,) = automations.prepare_automations(client)
    assert address(client) == "http://hook/mine"
    assert "url stays as it was set" in sentence
    assert "hook" not in sentence.replace(automations.BLOCK, ""), "it may hold a secret"


def test_two_checkouts_do_not_take_the_notices_from_each_other(client, tmp_path, monkeypatch):
    automations.prepare_automations(client)
    first = address(client)
    monkeypatch.setenv(environment.PAGES_ENV, "http://127.0.0.1:2")
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(tmp_path)
        automations.prepare_automations(client)
        assert address(client) == first
    automations.prepare_automations(client)
    assert address(client) == "http://127.0.0.1:2/notices", "its own pages have moved"


def test_without_the_variable_a_webhook_that_was_set_stays(client, monkeypatch):
    monkeypatch.setenv(automations.NOTIFY, "http://hook/1")
    automations.prepare_automations(client)
    monkeypatch.delenv(automations.NOTIFY)
    automations.prepare_automations(client)
    assert address(client) == "http://hook/1"
