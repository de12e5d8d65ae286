"""Runs a command as a child whose end we always see, and that survives ours.

The child writes into files and not into pipes: when the process that started it is killed, it
goes on, keeps the locks it inherited, and its log is there to read. One of them lies beside its
log: whoever asks for the same work next waits for it and finds the work done, or resumes.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from iclora.errors import IcloraError, UserError
from iclora.locks import file_lock

log = logging.getLogger("iclora.subprocess_task")

GRACE_SECONDS = 120.0
"""Seconds that a child may take to save after it was asked to stop."""

_TAIL = 20
_POLL_SECONDS = 0.2
_QUIET_ENVIRONMENT = {
    "ICLORA_LOG": "info",
    # Bars are drawn for a terminal; in a log each movement would be a line.
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONUNBUFFERED": "1",
}
_LEVELS = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL): (.*)")


class ChildTimeout(IcloraError):
    """The child was stopped because it took too long; another try would take as long."""


class ChildCommand(NamedTuple):
    """A command and where it works."""

    command: Sequence[str]
    log: Path
    """Its stderr; its stdout lies beside it."""

    locks: Sequence[int] = ()
    """Descriptors of held locks: held until the child ends, too."""

    seconds: float = 0.0
    """Longest time it may take; 0 is no limit."""

    on_line: Callable[[str], None] = lambda _line: None
    """Callback that takes every line of the log."""


def run_subprocess(command: ChildCommand) -> str:
    """Runs a command, repeats its stderr in our log and returns its stdout.

    If this thread is interrupted (the run was cancelled, a timeout) the child gets SIGTERM and
    time to save before it is killed.

    Raises:
        UserError: a person's mistake; the text is the child's sentence.
        ChildTimeout: it took longer than ``work.seconds`` and was stopped.
        IcloraError: it ended with another code than 0; the text holds its sentence or last lines.
    """
    command.log.parent.mkdir(parents=True, exist_ok=True)
    answer = command.log.with_suffix(".out")
    tail: deque[str] = deque(maxlen=_TAIL)
    with (
        file_lock(command.log.with_suffix(".lock"), command.log.stem) as own,
        command.log.open("w+b") as errors,
        answer.open("wb") as out,
        command.log.open("rb") as reading,
        subprocess.Popen(  # its own group: Ctrl+C reaches it through us, once
            command.command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            env={**_QUIET_ENVIRONMENT, **os.environ},
            pass_fds=[*command.locks, own],
            start_new_session=True,
        ) as child,
    ):
        try:
            _follow(child, _LogRelay(reading, tail, command.on_line), command.seconds)
        except BaseException:  # cancellation is not an Exception; the child must not outlive us
            _stop(child)
            raise
    text = answer.read_text(encoding="utf-8")
    if child.returncode != 0:
        raise _failure(command.command, child.returncode, text, tail)
    return text


class _LogRelay:
    """Repeats what is added to a log file, at the level that each line names."""

    def __init__(self, file: BinaryIO, tail: deque[str], heard: Callable[[str], None]) -> None:
        self._file, self._tail, self._on_line = file, tail, heard
        self._rest = b""

    def repeat(self, *, last: bool = False) -> None:
        """Logs the lines that are new; the last time, also one without an end."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        if last:
            lines.append(self._rest)
        for line in lines:
            # What a carriage return wrote over was never meant to stay.
            text = line.decode("utf-8", "replace").rstrip().rpartition("\r")[2].strip()
            if text:
                self._log_line(text)

    def _log_line(self, text: str) -> None:
        self._tail.append(text)
        self._on_line(text)
        found = _LEVELS.fullmatch(text)
        level, line = found.groups() if found else ("INFO", text)
        log.log(logging.getLevelNamesMapping()[level], "%s", line)


def _follow(child: subprocess.Popen[bytes], lines: _LogRelay, limit: float) -> None:
    """Logs what the child says until it ends.

    Logging happens in the caller's thread: Prefect takes log lines only from a run's own. The naps
    are short because an exception sent to this thread is seen between them.
    """
    began = time.monotonic()
    while True:
        lines.repeat()
        try:
            child.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if limit and time.monotonic() - began > limit:
                raise ChildTimeout(
                    f"stopped after {limit:.0f} s, the longest it may take; it saved first, and "
                    "the next run goes on from there"
                ) from None
            continue
        lines.repeat(last=True)
        return


def _failure(command: Sequence[str], code: int, answer: str, tail: deque[str]) -> IcloraError:
    """Makes an error of the child's end: with its own sentence where it had one.

    The status is in the answer too, because a launcher in between ends with a code of its own. Of
    several processes that a launcher started, more than one may have answered.
    """
    sentence = f"{' '.join(command[1:4])} ended with code {code}: {' | '.join(tail)}"
    for line in answer.splitlines():
        try:
            said = json.loads(line)
            sentence, code = str(said["error"]), int(said["status"])
        except (ValueError, KeyError, TypeError):
            continue
        break
    return UserError(sentence) if code == UserError.exit_code else IcloraError(sentence)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Asks the child's whole group to end: a launcher does not pass the wish on to its workers."""
    _signal(child, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    _signal(child, signal.SIGKILL)


def _is_alive(child: subprocess.Popen[bytes]) -> bool:
    child.poll()
    return _signal(child, 0)


def _signal(child: subprocess.Popen[bytes], number: int) -> bool:
    """Sends a signal to the child's group; whether there was anybody."""
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return False
    return True
