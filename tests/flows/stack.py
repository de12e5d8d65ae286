"""A copy of this checkout that `make up` can be run in, and its API as the UI uses it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ENDS = {"Completed", "Failed", "Crashed", "Cancelled", "TimedOut"}
PERSONS = (
    "Ann with pink hair, a cap and a white shirt in the snow by day",
    "Ben with blond hair, no hat and a red shirt in a room at night",
    "Cleo with blue hair, a top hat and a green shirt on the beach at sunset",
    "Dan with pink hair, no hat and a purple shirt in the city by day",
    "Eve with blond hair, a cap and a white shirt in the forest at sunset",
    "Gus with blue hair, no hat and a red shirt in the snow at night",
    "Ida with blond hair, a top hat and a green shirt in the city at night",
    "Kim with pink hair, a cap and a purple shirt in a room by day",
)
PROMPT = (
    "[MOVIE-SHOTS] a story of <{name}> {looks}; [SCENE-1] a wide shot of <{name}> waving, "
    "[SCENE-2] a medium shot of <{name}> reading a book, [SCENE-3] a close shot of <{name}> waving."
)
PRESET = """
extends = ["miniature"]
[train]
steps = {steps}
batch = 2
save_every = 1000
sample_every = 5
validate_every = 5
validate_samples = 2
validate_timesteps = [0.5]
conditional_probability = 0.0
[train.optimizer]
lr = 1e-4
[sample]
steps = 6
[evaluate]
prompts = {prompts}
conditional_prompts = 0
max_memorized = 1.0
margins = {{ consistency = 1.0, variety = 0.5, spread = 0.5, structure = 0.5 }}
"""
"""Quick, with as many prompts as it takes to decide, and wide margins: what is looked at here is
what becomes of a decision."""


class Stack:
    """Server, workers and pages on free ports, started and stopped by `make`."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.store = folder / "checkout", folder / "store"
        _copy_checkout(self.checkout)
        port = _free_ports()
        self.url, self.pages = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_API_PORT": str(port),
            "PYTHONPATH": str(self.checkout),
            "ICLORA_STORE": str(self.store),
            "OMP_NUM_THREADS": "1",
        }
        for name in ("ICLORA_WORK", "PREFECT_API_URL"):
            self.environment.pop(name, None)

    def make(self, target: str) -> str:
        """Runs `make up` or `make down`, with this environment's packages; what it says."""
        venv = BIN.parent
        command = f"make VENV={venv} -o {venv}/.ready {target} 2>&1"
        return self.run(["bash", "-c", command])

    def run(self, command: list[str], seconds: float = 500.0, *, check: bool = True) -> str:
        """A command in the checkout, as a person types it."""
        done = subprocess.run(
            command,
            cwd=self.checkout,
            env={**self.environment, "PATH": f"{BIN}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def preset(self, name: str, steps: int, persons: int = len(PERSONS)) -> str:
        """A quick preset; its path. Fewer persons decide nothing, sooner."""
        told = [person.partition(" ") for person in PERSONS[:persons]]
        prompts = [PROMPT.format(name=name, looks=looks) for name, _, looks in told]
        path = self.checkout / f"{name}.toml"
        path.write_text(PRESET.format(steps=steps, prompts=json.dumps(prompts)))
        return str(path)

    def switch(self, place: str, **values: bool) -> None:
        """Sets what the UI's switches set."""
        self._ask("PATCH", place, json=values)

    def automation(self, name: str) -> Any:
        (found,) = self.post("automations/filter", automations={"name": {"any_": [name]}})
        return found

    def add_schedule(self, name: str, slug: str, **more: Any) -> None:
        """Adds a daily schedule to a deployment."""
        place = f"deployments/{self.deployment(name)['id']}/schedules"
        daily = {"interval": 86400.0, **more.pop("schedule", {})}
        one = {"schedule": daily, "slug": slug, "active": True, **more}
        self._ask("POST", place, json=[one])

    def events(self, name: str) -> list[Any]:
        """The events of a name in the last hour."""
        since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        chosen = {"event": {"name": [name]}, "occurred": {"since": since}}
        return self.post("events/filter", filter=chosen)["events"]

    def post_events(self, *events: dict[str, Any]) -> None:
        """Tells the server of events, as clients do."""
        self._ask("POST", "events", json=list(events))

    def post(self, path: str, **body: Any) -> Any:
        """An answer of the API."""
        return self._ask("POST", path, json=body)

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def _ask(self, verb: str, path: str, **body: Any) -> Any:
        """A busy database's 503 is asked again, as Prefect's own client does."""
        for seconds in (0.5, 1.0, 2.0, 4.0, 8.0):
            answer = httpx.request(verb, f"{self.url}/api/{path}", timeout=120, **body)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(seconds)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self, name: str) -> Any:
        return self.get(f"deployments/name/{name}/{name}")

    def start(self, deployment: str, **parameters: Any) -> str:
        """Presses *Run* with these parameters; the run's id."""
        place = self.deployment(deployment)["id"]
        return self.post(f"deployments/{place}/create_flow_run", parameters=parameters)["id"]

    def runs(self, deployment: str, *states: str) -> list[Any]:
        """The runs of a deployment, newest first."""
        filters: dict[str, Any] = {"deployments": {"name": {"any_": [deployment]}}}
        if states:
            filters["flow_runs"] = {"state": {"name": {"any_": list(states)}}}
        return self.post("flow_runs/filter", sort="START_TIME_DESC", **filters)

    def state(self, run: str) -> str:
        return self.get(f"flow_runs/{run}")["state_name"]

    def until(self, run: str, *states: str, seconds: float = 900.0) -> str:
        """Waits until a run is in one of these states, or has ended in another."""
        wait(
            lambda: self.state(run) in {*states, *ENDS},
            seconds,
            lambda: f"{self.state(run)} {self.log(run)}",
        )
        state = self.state(run)
        assert state in states, f"{state} {self.log(run)}"
        return state

    def log(self, run: str) -> str:
        """The run's log, its subflows' not in it."""
        lines = self.post(
            "logs/filter",
            logs={"flow_run_id": {"any_": [run]}},
            sort="TIMESTAMP_ASC",
            limit=200,
        )
        return "\n".join(f"{line['level']} {line['message']}" for line in lines)

    def artifacts(self, run: str) -> dict[str, Any]:
        """Key to artifact."""
        found = self.post("artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}})
        return {one["key"]: one for one in found}

    def subflow(self, run: str, flow: str) -> str:
        """The run of a flow that a run started."""
        parent = {"parent_flow_run_id": {"any_": [run]}}
        (found,) = self.post("flow_runs/filter", flow_runs=parent, flows={"name": {"any_": [flow]}})
        return found["id"]


def wait(
    condition: Callable[[], object], seconds: float, said: Callable[[], object] = lambda: ""
) -> None:
    """Waits for something that must happen."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, said()
        time.sleep(1)


def _copy_checkout(target: Path) -> None:
    for name in ("flows", "tasks", "iclora", "schemas"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    for name in ("prefect.yaml", "pyproject.toml", "Makefile"):
        shutil.copy2(ROOT / name, target / name)


def _free_ports() -> int:
    """The first of two free ports in a row."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
