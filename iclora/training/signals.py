"""Stop signals and errors that end a run before its last step."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from iclora.errors import IcloraError

log = logging.getLogger(__name__)


class TrainingInterrupted(IcloraError):
    """Interruption by Ctrl+C or SIGTERM, raised after writing a checkpoint."""

    exit_code = 130


class TrainingBroken(IcloraError):
    """Failure after too many non-finite losses."""


class StopRequest:
    """Flag that a stop signal sets."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, number: int, _frame: FrameType | None) -> None:
        """Handles a stop signal; a second Ctrl+C raises KeyboardInterrupt immediately."""
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        log.warning("%s: saving after this step, then stopping", signal.Signals(number).name)


@contextmanager
def stop_requests() -> Generator[StopRequest]:
    """Converts SIGINT and SIGTERM into stop requests inside the block (main thread only)."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, request.request)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
