"""Circuit breaker that stops requests to an unavailable captioning server.

Until a server has answered this process, one request at a time probes it with all its retries while
the others wait. ``MAX_FAILURES`` consecutive failed probes open the breaker: requests fail without
being sent until a cooldown has passed, then the next request probes again. The state is keyed by
server address, so all sources in this process share it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

MAX_FAILURES: Final = 3
"""Number of consecutive unanswered requests that open the breaker. One or two failures may be
caused by the images in the request."""

COOLDOWN: Final = 30.0
"""Seconds during which an open breaker sends nothing."""


class CircuitBreaker:
    """Circuit breaker for one captioning server.

    Args:
        clock: Returns monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._probe = threading.Lock()
        self._is_up = False
        self._failures = 0
        self._open_until = float("-inf")

    @property
    def is_open(self) -> bool:
        """True while requests fail without being sent."""
        return self._failures >= MAX_FAILURES and self._clock() < self._open_until

    @contextmanager
    def request(self) -> Generator[None]:
        """Delays a request and its retries while another request probes the server."""
        if not self._is_up:
            self._probe.acquire()
            if self._is_up:  # another request succeeded meanwhile
                self._probe.release()
            else:
                try:
                    yield
                finally:
                    self._probe.release()
                return
        yield

    def succeed(self) -> None:
        """Records a successful request."""
        self._is_up, self._failures = True, 0

    def fail(self) -> None:
        """Records a request that got no answer after all its retries."""
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            self._is_up, self._open_until = False, self._clock() + COOLDOWN


@lru_cache(maxsize=16)
def breaker_of(url: str) -> CircuitBreaker:
    """Returns the breaker that all captioners in this process share for a server."""
    assert url, "captioners without an address are refused"
    return CircuitBreaker()
