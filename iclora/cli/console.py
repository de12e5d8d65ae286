"""Output of commands: the result on stdout, everything else on stderr.

Names, captions and errors come from other people's files. They are shown, never obeyed: characters
that a terminal takes for orders, or that show a text in another order, are escaped here, and
secrets are hidden, whoever says them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import unicodedata
from collections.abc import Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from iclora.log_lines import StepProgress, logs_json, progress_line, record_line
from iclora.redact import redact_text, redact_users

if TYPE_CHECKING:
    from schemas.config import Config

MINIATURE_NOTE = (
    "note: this uses the miniature models, which know nothing but their own film world; "
    "name others with --base, --preset or --set"
)

_results: ContextVar[TextIO | None] = ContextVar("results", default=None)
"""Stream of the result while everything that libraries print goes to stderr."""

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, directions, halves of surrogate pairs, line ends."""

_JOINERS = "\u200c\u200d"
"""Invisible characters inside words of some languages and inside some emoji."""


@contextmanager
def separate_results() -> Generator[None]:
    """Keeps stdout for the result: everything else printed in the block goes to stderr."""
    token = _results.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _results.reset(token)


def printable(text: str) -> str:
    """Escapes the characters of a line that do not stand for themselves."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode()


def answer(value: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Gives the command's result: one JSON object, or a text for people.

    Of the processes that ``accelerate launch`` or ``torchrun`` starts, the main one answers for
    all: they share stdout.
    """
    if "LOCAL_RANK" in os.environ and os.environ.get("RANK", os.environ["LOCAL_RANK"]) != "0":
        return
    if as_json:
        result = redact_users(json.dumps(value, ensure_ascii=False))
        if not result.isprintable():  # in JSON, invisible characters occur in strings only
            result = "".join(c if _escape(c) == c else json.dumps(c)[1:-1] for c in result)
    else:
        result = "\n".join(printable(line) for line in redact_text(text).split("\n"))
    stream = _results.get() or sys.stdout
    stream.write(result + "\n")
    stream.flush()


def print_note(text: str) -> None:
    """Prints a line that is not the result."""
    note = printable(redact_text(text))
    sys.stderr.write(f"{record_line('INFO', 'iclora', note) if logs_json() else note}\n")
    sys.stderr.flush()


def note_progress(step: str, done: int, total: int) -> None:
    """Prints how much of a step is done."""
    progress = StepProgress(step, done, total)
    if logs_json():
        sys.stderr.write(f"{progress_line(progress)}\n")
        sys.stderr.flush()
    else:
        print_note(str(progress))


def note_miniature(config: Config, *, base: bool = False) -> None:
    """Prints, as the command's first line, that it falls back on the miniature, if it does.

    Args:
        config: the resolved configuration.
        base: the command uses the base model (else it uses CLIP and the captioner).
    """
    from iclora.dataset.provenance import uses_miniature
    from iclora.models.locate import is_demo

    if is_demo(config.base.model) if base else uses_miniature(config):
        print_note(MINIATURE_NOTE)


class _LineFormatter(logging.Formatter):
    """Formats a record as one line, JSON or text; in text, a traceback follows as it is."""

    def format(self, record: logging.LogRecord) -> str:
        message = printable(redact_text(record.getMessage()))
        text = super().format(logging.makeLogRecord({**vars(record), "msg": message, "args": None}))
        if logs_json():
            return record_line(record.levelname, record.name, text)
        return f"{record.levelname}: {text}"


def log_to_stderr() -> None:
    """Shows warnings; ``ICLORA_LOG=info`` shows what happens."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    ours = logging.getLogger("iclora")
    ours.setLevel(os.environ.get("ICLORA_LOG", "warning").upper())
    handler.setLevel(ours.level)
    ours.handlers = [handler]
