"""A circuit breaker: a captioning server that is down is not asked for every set.

Until a server has answered this process, one request at a time probes it with all its retries, and
the others wait for the outcome. Several failed probes in a row open the breaker: requests fail
without being sent until a cooldown has passed, then the next one probes again. The state belongs to
the server's address, so all sources that this process works on share it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

MAX_FAILURES: Final = 3
"""Consecutive requests without an answer that open the breaker; one or two may be the fault of
their pictures."""

COOLDOWN: Final = 30.0
"""Seconds for which an open breaker sends nothing."""


class CircuitBreaker:
    """Lets requests pass while a server answers.

    Args:
        clock: monotonic seconds.
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
        """Holds back a request with its retries while another one probes the server."""
        if not self._is_up:
            self._probe.acquire()
            if self._is_up:  # it answered meanwhile
                self._probe.release()
            else:
                try:
                    yield
                finally:
                    self._probe.release()
                return
        yield

    def succeed(self) -> None:
        """Records an answer."""
        self._is_up, self._failures = True, 0

    def fail(self) -> None:
        """Records that a request and all its retries got no answer."""
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            self._is_up, self._open_until = False, self._clock() + COOLDOWN


@lru_cache(maxsize=16)
def breaker_of(url: str) -> CircuitBreaker:
    """Returns the breaker that all captioners of this process share for a server."""
    assert url, "captioners without an address are refused"
    return CircuitBreaker()
