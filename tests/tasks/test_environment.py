"""Where a run's store is, and how links lead from the UI to its pages, and nowhere else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.settings import PREFECT_API_URL

from iclora.errors import BadConfig
from iclora.store import Store
from tasks import environment as run_environment
from tasks import local_stack
from tasks.deploy import deploy
from tasks.prefect_defaults import TAG
from tasks.static_server import PageServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shown(store: Store, tmp_path, monkeypatch):
    """A store with a report, and the address of its pages."""
    store.write("reports/films/1/report.html", b"<p>fine")
    store.write("stages/secret/manifest.json", b"{}")
    store.work_folder.mkdir(parents=True)
    (store.work_folder / "key").write_text("secret")
    server = PageServer(0, store, tmp_path / "notices.jsonl")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv(run_environment.STORE_ENV, store.url)
    monkeypatch.setenv(run_environment.PAGES_ENV, f"http://127.0.0.1:{server.server_port}")
    yield store
    server.shutdown()
    server.server_close()


def get(path):
    answer = httpx.get(os.environ[run_environment.PAGES_ENV] + path)
    answer.raise_for_status()
    return answer.text, answer.headers["Content-Type"]


def test_a_link_opens_the_file(shown):
    link = run_environment.link(shown, "reports/films/1/report.html", "the report")
    assert link.startswith("[the report](http://127.0.0.1:")
    path = link.partition("127.0.0.1:")[2].rstrip(")").partition("/")[2]
    assert get(f"/{path}") == ("<p>fine", "text/html")
    assert "report.html" in get("/reports/films/1")[0]
    assert "reports" in get("/")[0]


@pytest.mark.parametrize(
    "path",
    ["/.work/key", "/stages/secret/manifest.json", "/reports/../.work/key", "/reports/none",
     "/reports/%2e%2e/.work/key", "/reports//etc/passwd"],
)  # fmt: skip
def test_nothing_else_is_shown(shown, path):
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        get(path)


def test_a_store_that_is_not_shown_is_named(shown, tmp_path):
    other = Store(str(tmp_path / "other"))
    assert (
        run_environment.link(other, "reports/x", "the report")
        == f"the report: `{other.url}/reports/x`"
    )


def test_notices_are_kept(shown):
    httpx.post(
        os.environ[run_environment.PAGES_ENV] + "/notices", json={"text": "train demo is Failed"}
    )
    (line,) = get("/notices")[0].splitlines()
    assert json.loads(json.loads(line)["notice"])["text"] == "train demo is Failed"


@pytest.mark.parametrize(
    ("given", "environment", "found"),
    [("s3://b/p", "/e", "s3://b/p"), ("", "/e", "/e"), ("", "", "./store"), ("s", "/e", "s")],
)
def test_the_store_is_the_parameter_then_the_environment(monkeypatch, given, environment, found):
    monkeypatch.setenv(run_environment.STORE_ENV, environment)
    assert run_environment.resolve_store(given) == found


@pytest.fixture
def deployed(monkeypatch):
    """As in the process of a deployment's run; the variable is Prefect's own, for tests."""
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "one")


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("given", "environment", "said"),
    [
        ("", "", "was not told where its store is"),
        ("", "./store", "ICLORA_STORE=./store is relative"),
        ("store", "/e", "the parameter store=store is relative"),
        ("{worker}/store", "/e", "the worker removes when this run ends"),
        ("", "{worker}/deep/store", "the worker removes when this run ends"),
    ],
)
def test_a_deployments_run_refuses_a_store_that_goes(monkeypatch, given, environment, said):
    with TemporaryDirectory(suffix="prefect") as worker:  # as Prefect's process worker does
        monkeypatch.setenv(run_environment.STORE_ENV, environment.format(worker=worker))
        with pytest.raises(BadConfig, match=said) as error:
            run_environment.resolve_store(given.format(worker=worker))
    assert "set ICLORA_STORE for the worker" in str(error.value)


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(
    ("given", "environment"), [("", "/e"), ("/e", ""), ("s3://b/p", ""), ("", "s3://b/p")]
)
def test_a_deployments_run_takes_a_store_that_stays(monkeypatch, given, environment):
    monkeypatch.setenv(run_environment.STORE_ENV, environment)
    assert run_environment.resolve_store(given) == (given or environment)


@pytest.mark.usefixtures("deployed")
def test_a_link_needs_no_default_store(store, monkeypatch):
    monkeypatch.delenv(run_environment.STORE_ENV, raising=False)
    monkeypatch.setenv(run_environment.PAGES_ENV, "http://127.0.0.1:1")
    assert store.url in run_environment.link(store, "reports/x", "the report")


@pytest.mark.usefixtures("prefect")
def test_a_run_on_a_worker_without_a_store_fails_at_once_and_says_what_to_do(tmp_path, monkeypatch):
    """Also in the run of a flow that this run starts, which is known as ours."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("ICLORA_HOME", raising=False)
    with get_client(sync_client=True) as client:
        for known in client.read_deployments():  # what other tests changed on this server is kept
            client.delete_deployment(known.id)
    deploy()
    nowhere = {
        name: value for name, value in os.environ.items() if name != run_environment.STORE_ENV
    }
    with get_client(sync_client=True) as client:
        place = client.read_deployment_by_name("retrain/retrain").id
        run = client.create_flow_run_from_deployment(place).id
        subprocess.run(
            [sys.executable, "-m", "prefect", "flow-run", "execute", str(run)],
            env={**nowhere, "PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            check=False,
            capture_output=True,
        )
        ended = client.read_flow_run(run)
        started = FlowRunFilter(parent_flow_run_id={"any_": [run]})
        deadline = time.monotonic() + 60
        while not (tasks := client.read_task_runs(flow_run_filter=started)):
            assert time.monotonic() < deadline, "the server writes them down a little later"
            time.sleep(0.2)
        (build,) = client.read_flow_runs(flow_run_filter=started)
    assert ended.state.name == "Failed"
    assert "was not told where its store is: set ICLORA_STORE for the worker" in ended.state.message
    assert build.tags == ended.tags == [TAG]
    assert [(one.name, one.run_count) for one in tasks] == [("plan build of demo", 1)]
    assert not list(tmp_path.iterdir())


def test_pods_of_the_example_are_told_where_the_store_is():
    pool = json.loads((ROOT / "docs/examples/kubernetes-gpu-pool.json").read_text())
    assert "://" in pool["variables"]["properties"]["env"]["default"][run_environment.STORE_ENV]


def test_pages_listen_where_they_are_told(store, tmp_path):
    with PageServer(0, store, tmp_path / "notices", "0.0.0.0") as pages:  # noqa: S104 - what is tested
        assert pages.server_address[0] == "0.0.0.0"  # noqa: S104 - what is tested


@pytest.mark.parametrize(
    ("environment", "address", "port"),
    [
        ({}, "http://127.0.0.1:4201", 4201),
        ({"PREFECT_API_URL": "http://head:4300/api"}, "http://127.0.0.1:4301", 4301),
        ({"PREFECT_API_URL": "https://prefect.example.org/api"}, "http://127.0.0.1:4201", 4201),
        ({run_environment.PAGES_HOST: "10.0.0.7"}, "http://10.0.0.7:4201", 4201),
        ({run_environment.PAGES_HOST: "0.0.0.0"}, f"http://{socket.getfqdn()}:4201", 4201),  # noqa: S104 - a value
        (
            {run_environment.PAGES_ENV: "https://pages.example.org"},
            "https://pages.example.org",
            4201,
        ),
        ({run_environment.PAGES_ENV: "http://pages:8080"}, "http://pages:8080", 8080),
    ],
)
def test_links_lead_to_the_machine_that_shows_the_pages(monkeypatch, environment, address, port):
    for name in (
        "PREFECT_API_URL",
        "PREFECT_SERVER_API_PORT",
        run_environment.PAGES_ENV,
        run_environment.PAGES_HOST,
    ):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (local_stack.pages_url(), local_stack.pages_port()) == (address, port)


@pytest.mark.parametrize(
    ("given", "told"),
    [("", "{here}/store"), ("mine", "{here}/mine"), ("/e", "/e"), ("s3://b/p", "s3://b/p")],
)
def test_workers_are_told_a_store_that_is_the_same_everywhere(monkeypatch, tmp_path, given, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(run_environment.STORE_ENV, given)
    assert local_stack.environment()[run_environment.STORE_ENV] == told.format(here=tmp_path)
