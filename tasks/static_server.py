"""Serves a store's reports, pages and pictures to a browser, and keeps notices.

The store may be on S3, so the standard library's handler of local folders is not enough.
``make up`` starts it beside the server: links in the UI's artifacts lead here, because a browser
opens no local file from a web page. Read only, and only what people look at (never the work folder
or a cache). It asks nobody who they are, so it listens on this machine alone unless
``ICLORA_PAGES_HOST`` names another address. ``POST /notices`` is where the notifying automation
writes unless it was given another webhook; ``GET /notices`` reads them.
"""

from __future__ import annotations

import html
import json
import logging
import mimetypes
import os
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from iclora.errors import IcloraError
from iclora.store import Store
from tasks.environment import PAGES_HOST, default_store

log = logging.getLogger("iclora.static_server")

PAGE_TYPES = ("datasets", "adapters", "reports", "pages")
"""Folders of the store that are shown."""

_LONGEST_NOTICE = 1 << 16


class PageServer(ThreadingHTTPServer):
    """Server of one store's pages.

    Args:
        port: on this machine; 0 is any that is free.
        store: what is shown.
        notices: the file that notices are added to, one JSON object a line.
        host: the address that it listens on.
    """

    def __init__(self, port: int, store: Store, notices: Path, host: str = "127.0.0.1") -> None:
        super().__init__((host, port), _Handler)
        self.store = store
        self.notices = notices


class _Handler(BaseHTTPRequestHandler):
    server: PageServer  # pyright: ignore[reportIncompatibleVariableOverride] - what makes it, always

    def do_GET(self) -> None:
        """Sends a file, the list of a folder, or the notices."""
        path = unquote(urlsplit(self.path).path).strip("/")
        parts = path.split("/")
        if path == "notices":
            file = self.server.notices
            data = file.read_bytes() if file.exists() else b""
            self._answer(data, "text/plain; charset=utf-8")
        elif not path:
            self._list("", [name for name in PAGE_TYPES if self.server.store.exists(name)])
        elif parts[0] not in PAGE_TYPES or any(part.startswith(".") or not part for part in parts):
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._show(path)

    def do_POST(self) -> None:
        """Stores a notice."""
        length = int(self.headers.get("Content-Length") or 0)
        if urlsplit(self.path).path != "/notices" or not 0 < length <= _LONGEST_NOTICE:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        notice = self.rfile.read(length).decode("utf-8", "replace")
        time = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": time, "notice": notice})
        with self.server.notices.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._answer(b"", "text/plain")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Writes to the log, not to stderr."""
        log.debug(format, *args)

    def _show(self, path: str) -> None:
        store = self.server.store
        try:
            data = store.read(path)
        except (IcloraError, OSError):
            names = store.listdir(path)
            if names:
                self._list(path, names)
            else:
                self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._answer(data, mimetypes.guess_type(path)[0] or "application/octet-stream")

    def _list(self, path: str, names: list[str]) -> None:
        items = "".join(
            f'<li><a href="/{quote(f"{path}/{name}".strip("/"))}">{html.escape(name)}</a>'
            for name in names
        )
        title = html.escape(path or self.server.store.url)
        page = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>"
        self._answer(f"{page}<ul>{items}</ul>".encode(), "text/html; charset=utf-8")

    def _answer(self, data: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> int:
    """Runs ``python -m tasks.static_server PORT NOTICES``."""
    port, notices = sys.argv[1:]
    host = os.environ.get(PAGES_HOST) or "127.0.0.1"
    with PageServer(int(port), Store(default_store()), Path(notices), host) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
