"""Runs an ``iclora`` command as a child process that survives its parent.

The child writes into files, not pipes: when its parent is killed, it goes on and keeps the locks
that it inherited. One of them lies beside its log, so the next run of the same work waits for it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from iclora.errors import IcloraError, UserError
from iclora.locks import file_lock
from iclora.log_lines import LOG_FORMAT, StepProgress, parse_line

log = logging.getLogger("iclora.subprocess_task")

GRACE_SECONDS = 120.0
"""Time for a child to save after SIGTERM and before SIGKILL."""

_TAIL_LINES = 20
_POLL_SECONDS = 0.2  # between two polls, this thread sees the exception that cancels it
_DEFAULT_ENVIRONMENT = {
    "ICLORA_LOG": "info",
    # Bars are drawn for a terminal; in a log each movement would be a line.
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONUNBUFFERED": "1",
}


class ChildTimeout(IcloraError):
    """The child was stopped because it took too long; another try would take as long."""


def run_subprocess(
    command: Sequence[str],
    log_file: Path,
    *,
    locks: Sequence[int] = (),
    seconds: float = 0.0,
    on_progress: Callable[[StepProgress], None] = lambda _progress: None,
) -> str:
    """Runs a command, relays its log (JSON lines on stderr) and returns its stdout.

    If this thread is interrupted (the run was cancelled, a timeout) the child gets SIGTERM and
    time to save before it is killed.

    Args:
        command: the command and its arguments.
        log_file: receives stderr; stdout and a lock lie beside it.
        locks: descriptors of held locks, which the child holds until it ends, too.
        seconds: time limit; 0 is none.
        on_progress: callback that takes the progress that the child reports.

    Raises:
        UserError: a person's mistake; the text is the child's sentence.
        ChildTimeout: the child took longer than ``seconds`` and was stopped.
        IcloraError: it ended with a code other than 0; the text is its sentence or last lines.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    answer_file = log_file.with_suffix(".out")
    with (
        file_lock(log_file.with_suffix(".lock"), log_file.stem) as own_lock,
        log_file.open("w+b") as stderr,
        answer_file.open("wb") as stdout,
        log_file.open("rb") as reader,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**_DEFAULT_ENVIRONMENT, **os.environ, LOG_FORMAT: "json"},
            pass_fds=[*locks, own_lock],
            start_new_session=True,  # Ctrl+C reaches it through us, once
        ) as child,
    ):
        relay = _LogRelay(reader, on_progress)
        try:
            relay.follow(child, seconds)
        except BaseException:  # cancellation is not an Exception; the child must not outlive us
            _stop(child)
            raise
    answer = answer_file.read_text(encoding="utf-8")
    if child.returncode == 0:
        return answer
    # A launcher in between ends with a code of its own, so the child's answer has the status too.
    # If several processes of a launcher answered, the first counts.
    for line in answer.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            failure = json.loads(line)
            sentence, status = str(failure["error"]), int(failure["status"])
            raise UserError(sentence) if status == UserError.exit_code else IcloraError(sentence)
    sentence = f"{' '.join(command[1:4])} ended with code {child.returncode}: "
    raise IcloraError(sentence + " | ".join(relay.tail))


class _LogRelay:
    """Logs what a child adds to its log file, from the thread of the run that Prefect logs."""

    def __init__(self, file: BinaryIO, on_progress: Callable[[StepProgress], None]) -> None:
        self._file, self._on_progress = file, on_progress
        self._rest = b""
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        """Messages of the last lines."""

    def follow(self, child: subprocess.Popen[bytes], seconds: float) -> None:
        """Logs until the child ends, or raises ChildTimeout."""
        start = time.monotonic()
        while child.returncode is None:
            self._read()
            if seconds and time.monotonic() - start > seconds:
                raise ChildTimeout(
                    f"stopped after {seconds:.0f} s, the longest it may take; it saved first, and "
                    "the next run goes on from there"
                )
            with suppress(subprocess.TimeoutExpired):
                child.wait(_POLL_SECONDS)
        self._read(at_end=True)

    def _read(self, *, at_end: bool = False) -> None:
        """Logs the new lines; at the end, also one without a line end."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in [*lines, self._rest] if at_end else lines:
            # What a carriage return wrote over was never meant to stay.
            text = line.decode("utf-8", "replace").rstrip().rpartition("\r")[2].strip()
            if not text:
                continue
            level, message, progress = parse_line(text)
            if progress:
                self._on_progress(progress)
            self.tail.extend(message.splitlines())
            log.log(level, "%s", message)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Ends the child's whole group: a launcher does not pass signals on to its workers."""
    with suppress(ProcessLookupError):  # the group is empty
        os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            child.poll()  # reaps it: a zombie belongs to the group
            os.killpg(child.pid, 0)
            time.sleep(_POLL_SECONDS)
        os.killpg(child.pid, signal.SIGKILL)
