"""What the drills share: a captioner that can go away, builds and what came of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from iclora.shards import open_dataset
from iclora.store import Store

CAPTION = (
    "[MOVIE-SHOTS] a day by the sea with <Ann>, [SCENE-1] <Ann> wakes up early, "
    "[SCENE-2] <Ann> walks to the beach, [SCENE-3] <Ann> swims far out."
)


class Captioner:
    """An OpenAI-compatible server that says the same of everything, always on one port."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.delay = 0.0
        self.port = free_port()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        captioner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                captioner.asked[body.decode()] += 1
                time.sleep(captioner.delay)
                choice = {"message": {"content": CAPTION}, "finish_reason": "stop"}
                answer = json.dumps({"choices": [choice]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(condition: Callable[[], object], seconds: float = 120.0, what: str = "") -> None:
    """Waits for something that must happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what or "it did not happen in time"
        time.sleep(0.05)


def files_of(store: Store, name: str = "films") -> dict[str, bytes]:
    """Every file of the latest version of a dataset."""
    version = open_dataset(store, name).manifest.version
    folder = f"datasets/{name}/{version}"
    return {file: store.read(f"{folder}/{file}") for file in store.names(folder)}


def start_build(
    store: str, films: Sequence[Path], overrides: Mapping[str, Any], **options: Any
) -> subprocess.Popen[str]:
    """``iclora build`` as a person starts it."""
    command = [sys.executable, "-m", "iclora", "build", *map(str, films), "--name", "films"]
    for key, value in overrides.items():
        command += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return subprocess.Popen(
        [*command, "--store", store, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}
