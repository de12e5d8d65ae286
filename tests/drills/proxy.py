"""A network that fails on demand: a TCP proxy that cuts uploads and answers like a busy S3."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

SLOW_DOWN = (
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_CHUNK = 1 << 14


class Proxy:
    """Passes connections on to a port of this machine until it is told otherwise."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._to_cut = self._to_refuse = 0
        self._limit = 0
        self._lock = threading.Lock()
        self.cuts = self.refusals = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def cut(self, connections: int, after: int) -> None:
        """Resets this many connections in the middle of sending more than ``after`` bytes."""
        self._to_cut, self._limit = connections, after
        self._drop_all()

    def slow_down(self, requests: int) -> None:
        """Answers this many requests with 503 SlowDown."""
        self._to_refuse = requests
        self._drop_all()

    def mend(self) -> None:
        """From now on everything passes; the counts begin anew."""
        self._to_cut = self._to_refuse = self.cuts = self.refusals = 0

    def close(self) -> None:
        self._server.close()
        self._drop_all()

    def _drop_all(self) -> None:
        """Kept-alive connections would slip through what is to fail."""
        for one in list(self._open):
            _reset(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        with client, contextlib.suppress(OSError):
            if self._take("_to_refuse", "refusals"):
                self._refuse(client)
                return
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                self._send_on(client, server)
                _reset(server)
                back.join()
        self._open.discard(client)

    def _take(self, left: str, counter: str) -> bool:
        with self._lock:
            if getattr(self, left) <= 0:
                return False
            setattr(self, left, getattr(self, left) - 1)
            setattr(self, counter, getattr(self, counter) + 1)
            return True

    def _refuse(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(_CHUNK)
        client.sendall(
            b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(SLOW_DOWN), SLOW_DOWN)
        )
        client.settimeout(1.0)
        while client.recv(_CHUNK):  # the body, so that the answer is not lost in a reset
            pass

    def _send_on(self, client: socket.socket, server: socket.socket) -> None:
        sent = 0
        while data := client.recv(_CHUNK):
            sent += len(data)
            if sent > self._limit and self._take("_to_cut", "cuts"):
                server.sendall(data[: len(data) // 2])
                _reset(client)
                return
            server.sendall(data)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    _reset(sink)


def _reset(one: socket.socket) -> None:
    """Ends a connection at once, as a broken cable or a restarted router does."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        one.close()
