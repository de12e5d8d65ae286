"""How a training ends before its last step."""

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
    """Asked to stop (Ctrl+C, SIGTERM); a checkpoint was written first."""

    exit_code = 130


class TrainingBroken(IcloraError):
    """Too many losses that are not finite."""


class StopRequest:
    """Whether someone asked the process to stop."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler; a second Ctrl+C is obeyed at once, and nothing is half written."""
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        log.warning("%s: saving after this step, then stopping", signal.Signals(number).name)


@contextmanager
def stop_requests() -> Generator[StopRequest]:
    """Turns SIGINT and SIGTERM into requests while the block runs (main thread only)."""
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
