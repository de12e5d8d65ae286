"""Runs a command as a child whose end we always see."""

from __future__ import annotations

import logging
import signal
import subprocess
from collections import deque
from threading import Thread

from iclora.errors import IcloraError

log = logging.getLogger("iclora.child")

GRACE_SECONDS = 120.0
"""How long a child that was asked to stop may take to save."""

_TAIL = 20


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
        tail: deque[str] = deque(maxlen=_TAIL)
        reader = Thread(target=_stream, args=(child, tail), daemon=True)
        reader.start()
        try:
            assert child.stdout is not None
            answer = child.stdout.read()
            code = child.wait()
        except BaseException:  # cancellation is not an Exception; the child must not outlive us
            _stop(child)
            raise
        reader.join()
    if code != 0:
        raise IcloraError(f"{' '.join(command[1:4])} ended with code {code}: {' | '.join(tail)}")
    return answer


def _stream(child: subprocess.Popen[str], tail: deque[str]) -> None:
    assert child.stderr is not None
    for line in child.stderr:
        text = line.rstrip()
        if text:
            tail.append(text)
            log.info("%s", text)


def _stop(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
