"""What the drills share: a captioner that can go away, builds and what came of them."""

from __future__ import annotations

import contextlib
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

import httpx
import psutil

from iclora.dataset import open_dataset
from iclora.store import Store, file_sha256
from iclora.training.metrics import TENSORBOARD

ROOT = Path(__file__).parents[2]
ENDS = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
CAPTION = (
    "[MOVIE-SHOTS] a day by the sea with <Ann>, [SCENE-1] <Ann> wakes up early, "
    "[SCENE-2] <Ann> walks to the beach, [SCENE-3] <Ann> swims far out."
)


class Captioner:
    """An OpenAI-compatible server that says the same of everything, always on one port."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.keys: set[str] = set()
        self.delay = 0.0
        self.port = free_port()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Answers, unless it does already."""
        if self._server is not None:
            return
        captioner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                captioner.asked[body.decode()] += 1
                captioner.keys.add(self.headers.get("Authorization", ""))
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
    return {file: store.read(f"{folder}/{file}") for file in store.listdir(folder)}


def adapter_files(folder: Path) -> dict[str, str]:
    """What must not depend on kills, by its sha256; the others tell of this very run."""
    told = {"run.json", "README.md", "manifest.json"}
    return {
        str(path.relative_to(folder)): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in told and path.parent.name != TENSORBOARD
    }


def build_command(store: str, films: Sequence[Path], overrides: Mapping[str, Any]) -> list[str]:
    """``iclora build`` as a person types it."""
    command = [sys.executable, "-m", "iclora", "build", *map(str, films), "--name", "films"]
    command += ["--preset", "miniature"]
    for key, value in overrides.items():
        command += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return [*command, "--store", store, "--json"]


def start_build(
    store: str, films: Sequence[Path], overrides: Mapping[str, Any], **options: Any
) -> subprocess.Popen[str]:
    """Starts it; what it says comes through pipes."""
    return subprocess.Popen(
        build_command(store, films, overrides),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


class Operations:
    """An orchestrator of its own, brought up as a person does, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("pyproject.toml", "prefect.yaml"):
            (folder / name).symlink_to(ROOT / name)
        api = f"http://127.0.0.1:{free_port()}/api"
        self.environment = {
            **os.environ,
            "PREFECT_API_URL": api,
            "PREFECT_HOME": str(folder / "home"),
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        self._api = httpx.Client(base_url=api, trust_env=False, timeout=30.0)

    def up(self) -> None:
        self._operate("up")

    def down(self) -> None:
        self._operate("down")

    def _operate(self, action: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "tasks.local_stack", action],
            cwd=self.folder,
            env=self.environment,
            check=True,
        )

    def process(self, name: str) -> psutil.Process:
        """``server``, ``worker-iclora-cpu`` or ``worker-iclora-gpu``."""
        return psutil.Process(int((self.folder / f".operate/{name}.pid").read_text()))

    def start(self, deployment: str, **parameters: Any) -> str:
        """Asks for a run, as the UI's form does; gives its id."""
        found = self._ask("GET", f"/deployments/name/{deployment}/{deployment}")
        place = f"/deployments/{found['id']}/create_flow_run"
        return str(self._ask("POST", place, json={"parameters": parameters})["id"])

    def state(self, run: str) -> str:
        """Such as ``RUNNING`` or ``COMPLETED``."""
        return str(self._read(run)["type"])

    def message(self, run: str) -> str:
        return str(self._read(run)["message"])

    def _read(self, run: str) -> dict[str, Any]:
        state: dict[str, Any] = self._ask("GET", f"/flow_runs/{run}")["state"]
        return state

    def _ask(self, verb: str, path: str, **body: Any) -> Any:
        """An answer; a busy database's 503 is asked again, as Prefect's own client does."""
        for wait in (0.5, 1.0, 2.0, 4.0, 8.0):
            answer = self._api.request(verb, path, **body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(wait)
        return answer.raise_for_status().json()

    def ended(self, run: str, seconds: float = 240.0) -> str:
        """The state in which a run ends."""
        until(lambda: self.state(run) in ENDS, seconds, f"run {run} did not end")
        return self.state(run)


def kill_all(*processes: psutil.Process) -> None:
    """Kills processes and all that they started, as a power cut does."""
    doomed = [one for process in processes for one in (*process.children(recursive=True), process)]
    for one in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(doomed, timeout=20)
