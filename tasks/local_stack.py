"""Brings the orchestrator up on one machine, and down, without losing anything.

``up`` starts what is not running yet (server with UI, the store's pages, one worker a pool),
creates pools, automations and deployments, and writes ``prefect.toml`` so that every command in
this checkout finds the server. ``down`` stops what ``up`` started and removes ``prefect.toml``; the
database and the store stay. Both may be repeated.

Everything started inherits the environment: Prefect's own variables decide where the server keeps
its data (``PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://user@host/name``) and
listens (``PREFECT_SERVER_API_PORT``), ``ICLORA_STORE`` names the default store.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from iclora.errors import IcloraError
from tasks.deploy import POOLS
from tasks.environment import PAGES_ENV, PAGES_HOST, STORE_ENV, default_store

log = logging.getLogger("iclora.local_stack")

STATE = Path(".operate")
"""Process ids and logs of what ``up`` started; git-ignored."""

SETTINGS = Path("prefect.toml")
_START_SECONDS = 600.0
"""The first start migrates the database, which takes minutes where disk and processor are busy."""

_STOP_SECONDS = 150.0


def api_url() -> str:
    """Returns the server's address: the environment's, else the default port on this machine."""
    port = os.environ.get("PREFECT_SERVER_API_PORT", "4200")
    return os.environ.get("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")


def up() -> None:
    """Starts whatever is not running."""
    STATE.mkdir(exist_ok=True)
    env = environment()
    if not _server_responds():
        _start("server", ["prefect", "server", "start"], env)
        deadline = time.monotonic() + _START_SECONDS
        while not _server_responds():
            if time.monotonic() > deadline or not _is_alive(STATE / "server.pid"):
                raise IcloraError(f"the Prefect server did not start: see {STATE / 'server.log'}")
            time.sleep(0.5)
    SETTINGS.write_text(f'[api]\nurl = "{api_url()}"\n', encoding="utf-8")
    pages = ["python", "-m", "tasks.static_server", str(pages_port()), str(STATE / "notices.jsonl")]
    _start("pages", pages, env)
    # In a process of its own: this one's Prefect read its settings before the server was up.
    command = _program(["python", "-m", "tasks.deploy"])
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise IcloraError(f"python -m tasks.deploy failed: {(done.stderr or done.stdout)[-600:]}")
    for pool in POOLS:
        _start(f"worker-{pool}", ["prefect", "worker", "start", "--pool", pool], env)
    if kept := done.stdout.splitlines():
        log.info("Changed on the server by a person, and left so:")
    for sentence in kept:
        log.info("* %s", sentence)
    log.info("The UI is at %s", api_url().removesuffix("/api"))
    log.info("Reports and pages are at %s", pages_url())


def down() -> None:
    """Stops what ``up`` started, workers first."""
    for file in sorted(STATE.glob("*.pid"), reverse=True):
        _stop(file)
    SETTINGS.unlink(missing_ok=True)


def pages_url() -> str:
    """Returns the pages' address: the environment's, else this machine's, on their port."""
    host = os.environ.get(PAGES_HOST) or "127.0.0.1"
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - all of its networks, if a person says so
        host = socket.getfqdn()
    return os.environ.get(PAGES_ENV) or f"http://{host}:{pages_port()}"


def pages_port() -> int:
    """Returns the port in the pages' address, else the one after the server's."""
    port = httpx.URL(os.environ.get(PAGES_ENV, "")).port
    return port or (httpx.URL(api_url()).port or 4200) + 1


def environment() -> dict[str, str]:
    """Returns the environment of everything that ``up`` starts."""
    store = default_store()
    own = {
        "PREFECT_API_URL": api_url(),
        "PREFECT_SERVER_API_HOST": httpx.URL(api_url()).host,
        "PREFECT_SERVER_API_PORT": str(httpx.URL(api_url()).port or 4200),
        # Leases in a file survive a restart of the server; in memory they would crash long runs.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "tasks.event_ordering",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Bare names are for a person's commands; a cancelling worker would log a traceback of it.
        "PREFECT_PLUGINS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "ICLORA_HOME": str(Path.cwd()),
        # A deployment's run refuses a relative one: it may be anywhere.
        STORE_ENV: store if "://" in store else str(Path(store).expanduser().absolute()),
        PAGES_ENV: pages_url(),
    }
    return {**os.environ, **own}


def _program(command: list[str]) -> list[str]:
    """Returns the command with the program that lies beside this Python."""
    return [str(Path(sys.executable).parent / command[0]), *command[1:]]


def _start(name: str, command: list[str], environment: dict[str, str]) -> None:
    file = STATE / f"{name}.pid"
    if _is_alive(file):
        return
    with (STATE / f"{name}.log").open("ab") as out:
        process = subprocess.Popen(
            _program(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            # A worker turns SIGTERM into SIGINT, which shells set to ignored in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread of ours runs yet
        )
    file.write_text(str(process.pid), encoding="utf-8")
    log.info("%s started", name)


def _server_responds() -> bool:
    try:
        return httpx.get(f"{api_url()}/health", timeout=2.0).is_success
    except httpx.HTTPError:
        return False


def _is_alive(file: Path) -> bool:
    return file.exists() and _is_ours(int(file.read_text()))


def _is_ours(pid: int) -> bool:
    """Checks that the process lives and is one of these: ids are reused after a reboot."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return "prefect" in command or "tasks.static_server" in command


def _stop(file: Path) -> None:
    pid = int(file.read_text())
    if _is_ours(pid):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while _is_ours(pid) and time.monotonic() < deadline:
            time.sleep(0.2)
        if _is_ours(pid):
            os.killpg(pid, signal.SIGKILL)
    file.unlink()
    log.info("%s stopped", file.stem)


def main() -> int:
    """Runs ``python -m tasks.local_stack up|down``."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    actions = {"up": up, "down": down}
    action = actions.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if action is None:
        log.error("usage: python -m tasks.local_stack up|down")
        return 2
    try:
        action()
    except IcloraError as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence is for a person
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
