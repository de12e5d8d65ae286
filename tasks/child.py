"""Runs a command as a child whose end we always see."""

from __future__ import annotations

import logging
import signal
import subprocess
from collections import deque
from queue import SimpleQueue
from threading import Thread
from typing import IO

from iclora.errors import IcloraError

log = logging.getLogger("iclora.child")

GRACE_SECONDS = 120.0
"""How long a child that was asked to stop may take to save."""

_TAIL = 20
_NAP_SECONDS = 0.2


def run_child(command: list[str]) -> str:
    """Runs a command, streams its stderr into the log and returns its stdout.

    If this thread is interrupted (the run was cancelled, a timeout) the child gets SIGTERM and
    time to save before it is killed.

    Raises:
        IcloraError: the child ended with another code than 0; the text holds its last lines.
    """
    with subprocess.Popen(  # its own group: Ctrl+C reaches it through us, once
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    ) as child:
        answer: list[str] = []
        heard: SimpleQueue[str] = SimpleQueue()
        readers = [
            Thread(target=_hear, args=(child.stderr, heard), daemon=True),
            Thread(target=_collect, args=(child.stdout, answer), daemon=True),
        ]
        for reader in readers:
            reader.start()
        tail: deque[str] = deque(maxlen=_TAIL)
        try:
            code = _follow(child, heard, tail)
        except BaseException:  # cancellation is not an Exception; the child must not outlive us
            _stop(child)
            raise
        for reader in readers:
            reader.join()
    _log_lines(heard, tail)
    if code != 0:
        raise IcloraError(f"{' '.join(command[1:4])} ended with code {code}: {' | '.join(tail)}")
    return "".join(answer)


def _follow(child: subprocess.Popen[str], heard: SimpleQueue[str], tail: deque[str]) -> int:
    """Logs what the child says until it ends.

    Logging happens here and not in the reader: Prefect takes log lines only from a run's own
    thread. The naps are short because an exception sent to this thread is seen between them.
    """
    while True:
        _log_lines(heard, tail)
        try:
            return child.wait(_NAP_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _log_lines(heard: SimpleQueue[str], tail: deque[str]) -> None:
    while not heard.empty():
        line = heard.get()
        tail.append(line)
        log.info("%s", line)


def _hear(lines: IO[str] | None, heard: SimpleQueue[str]) -> None:
    for line in lines or ():
        if text := line.rstrip():
            heard.put(text)


def _collect(lines: IO[str] | None, answer: list[str]) -> None:
    answer.extend(lines or ())


def _stop(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
