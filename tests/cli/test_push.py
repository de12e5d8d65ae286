"""``iclora push`` against a server that speaks the hub's protocol, as far as a commit needs it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Hub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.cards: list[str] = []
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.refuses:
            self._say({"error": "you may not"}, 403)
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self._say({"url": f"{self.server.url}/datasets/me/films"})
        elif self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            self._say({"files": [{"path": file["path"], **plain} for file in files]})
        elif self.path == "/api/validate-yaml":
            self.server.cards.append(json.loads(body)["content"])
            self._say({"errors": [], "warnings": []})
        else:
            assert self.path.endswith("/commit/main"), self.path
            self._commit([json.loads(line) for line in body.splitlines()])

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if line["key"] == "file":
                value = line["value"]
                self.server.files[value["path"]] = base64.b64decode(value["content"])
        url = f"{self.server.url}/datasets/me/films/commit/abc"
        self._say({"commitUrl": url, "commitOid": "abc", "success": True})

    def do_GET(self) -> None:
        self._say([] if "/tree/" in self.path else {"id": "me/films", "sha": "0", "siblings": []})

    def _say(self, value: object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def push(hub: Hub, root: str, *more: str) -> subprocess.CompletedProcess[str]:
    known = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_x", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "iclora", "push", "films", "me/films", "--store", root]
    return subprocess.run(
        [*command, "--json", *more],
        env={**os.environ, **known},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_dataset_goes_up_whole(published, hub: Hub):
    store, ref = published
    done = push(hub, store.root)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["commit"].endswith("/commit/abc")
    assert hub.created[0]["name"] == "films"
    assert hub.created[0]["type"] == "dataset"
    assert "pretty_name: films" in hub.cards[0], "the hub reads the card first"
    names = set(store.listdir(f"datasets/films/{ref.version}"))
    assert set(hub.files) == names
    for name in names:
        assert hub.files[name] == store.read(f"datasets/films/{ref.version}/{name}")


def test_a_refusal_is_one_sentence(published, hub: Hub):
    hub.refuses = True
    done = push(hub, published[0].root)
    assert done.returncode == 2
    assert "the hub did not take me/films" in json.loads(done.stdout)["error"]
    assert "Traceback" not in done.stderr


def test_a_name_of_two_things(published, hub: Hub):
    store, _ = published
    store.write("adapters/films/aa11/run.json", b"{}")
    done = push(hub, store.root)
    assert done.returncode == 2
    assert "is a dataset and an adapter" in json.loads(done.stdout)["error"]
    assert push(hub, store.root, "--kind", "dataset").returncode == 0
