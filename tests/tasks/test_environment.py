"""Links lead from the UI to a store's pages, and nowhere else."""

from __future__ import annotations

import json
import os
import threading

import httpx
import pytest

from iclora.store import Store
from tasks import environment
from tasks.static_server import PageServer


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
    monkeypatch.setenv(environment.STORE_ENV, store.url)
    monkeypatch.setenv(environment.PAGES_ENV, f"http://127.0.0.1:{server.server_port}")
    yield store
    server.shutdown()
    server.server_close()


def get(path):
    answer = httpx.get(os.environ[environment.PAGES_ENV] + path)
    answer.raise_for_status()
    return answer.text, answer.headers["Content-Type"]


def test_a_link_opens_the_file(shown):
    link = environment.link(shown, "reports/films/1/report.html", "the report")
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
        environment.link(other, "reports/x", "the report") == f"the report: `{other.url}/reports/x`"
    )


def test_notices_are_kept(shown):
    httpx.post(
        os.environ[environment.PAGES_ENV] + "/notices", json={"text": "train demo is Failed"}
    )
    (line,) = get("/notices")[0].splitlines()
    assert json.loads(json.loads(line)["notice"])["text"] == "train demo is Failed"


@pytest.mark.parametrize(
    ("given", "environment", "found"),
    [("s3://b/p", "/e", "s3://b/p"), ("", "/e", "/e"), ("", "", "./store")],
)
def test_the_store_is_the_parameter_then_the_environment(monkeypatch, given, environment, found):
    monkeypatch.setenv(environment.STORE_ENV, environment)
    assert environment.resolve_store(given) == found
