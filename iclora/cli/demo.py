"""``iclora demo``: the whole chain on the miniature, through the flows.

The library does not import the flows: they are started as a child process, by the command that a
person would type.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from iclora.cli.console import MINIATURE_NOTE, answer, print_note
from iclora.cli.options import DEFAULT_STORE, AsJson, StoreUrl
from iclora.errors import BadInput
from schemas.store_paths import adapter_path

NAME = "demo"
"""Name of the demo's dataset and adapter."""

_START_SECONDS = "120"
"""For Prefect's temporary server: its first start migrates a database."""


def demo(store: StoreUrl = DEFAULT_STORE, *, as_json: AsJson = False) -> int:
    """Renders films, builds a dataset from them, trains, evaluates."""
    print_note(MINIATURE_NOTE)
    flows = find_spec("flows")
    if flows is None or flows.origin is None:
        raise BadInput("the flows are not installed; run this in a checkout, after `make setup`")
    home = Path(flows.origin).parents[1]
    environment = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": _START_SECONDS}
    url = str(Path(store).resolve()) if "://" not in store else store
    code = f"from flows.retrain import retrain; retrain(name={NAME!r}, store={url!r})"
    status = subprocess.run(
        [sys.executable, "-c", code],
        cwd=home,
        env={**environment, **os.environ},
        stdout=sys.__stderr__ if as_json else None,
        check=False,
    ).returncode
    shown = _report_files(url) if status == 0 else []
    done = "done" if status == 0 else f"failed with status {status}"
    lines = [f"the demo is {done}; see {url}", *shown]
    answer(
        {"store": url, "status": status, "shown": shown},
        "\n".join(lines),
        as_json=as_json,
    )
    return min(status, 1)


def _report_files(url: str) -> list[str]:
    """Addresses of the pages and sheets of the reports on the demo's adapter."""
    from iclora.dataset.reader import LATEST
    from iclora.evaluation.reports import reports_on  # late: it imports torch
    from iclora.store import Store

    store = Store(url)
    version = store.read(adapter_path(NAME, LATEST)).decode().strip()
    folders = [folder for folder, _ in reports_on(store, f"{NAME}@{version}")]
    sheets = [f"{folder}/sheets" for folder in folders]
    return [
        *(store.address(f"{folder}/report.html") for folder in folders),
        *(store.address(f"{sheets}/{name}") for sheets in sheets for name in store.listdir(sheets)),
    ]
