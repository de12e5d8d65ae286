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
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from iclora.redact import redact_text, redact_users

if TYPE_CHECKING:
    from schemas.config import Config

MINIATURE_NOTE = (
    "note: this uses the miniature models, which know nothing but their own film world; "
    "name others with --base, --preset or --set"
)


class _Results:
    """Stream of results while everything that libraries print goes to stderr."""

    stream: TextIO | None = None


@contextmanager
def separate_results() -> Generator[None]:
    """Keeps stdout for the result: whatever else is printed in the block goes to stderr."""
    before, _Results.stream = sys.stdout, sys.stdout
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout, _Results.stream = before, None


def printable(text: str) -> str:
    """One line of somebody else's text in which every character stands for itself."""
    if text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _ORDERS or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode()


_ORDERS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what is not shown: controls, directions, halves of pairs, line ends."""

_JOINERS = "\u200c\u200d"
"""Between the letters of some languages, and the parts of some emoji."""


def answer(value: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Gives the command's result: one JSON object, or a text for people.

    Of the processes that ``accelerate launch`` or ``torchrun`` starts, the main one answers for
    all: they share stdout.
    """
    if "LOCAL_RANK" in os.environ and os.environ.get("RANK", os.environ["LOCAL_RANK"]) != "0":
        return
    stream = _Results.stream or sys.stdout
    if as_json:
        said = redact_users(json.dumps(value, ensure_ascii=False))
        said = said if said.isprintable() else "".join(map(_json_escaped, said))
    else:
        said = "\n".join(printable(line) for line in redact_text(text).split("\n"))
    stream.write(said + "\n")
    stream.flush()


def _json_escaped(character: str) -> str:
    """Escapes control characters; in JSON they occur in strings only."""
    return character if _escaped(character) == character else json.dumps(character)[1:-1]


def print_note(text: str) -> None:
    """Says something that is not the result, in one line."""
    sys.stderr.write(f"{printable(redact_text(text))}\n")
    sys.stderr.flush()


def note_miniature(config: Config, *, base: bool = False) -> None:
    """Says in the command's first line that it falls back on the miniature, if it does.

    Args:
        config: the resolved configuration.
        base: whether the command uses the base model (else it uses CLIP and the captioner).
    """
    from iclora.dataset.provenance import uses_miniature
    from iclora.models.locate import MINIATURE

    if config.base.model.startswith(MINIATURE) if base else uses_miniature(config):
        print_note(MINIATURE_NOTE)


class _Lines(logging.Formatter):
    """One line a message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; an exception's traceback follows as it is."""
        said = printable(redact_text(record.getMessage()))
        return super().format(logging.makeLogRecord({**vars(record), "msg": said, "args": None}))


def log_to_stderr() -> None:
    """Shows warnings; ``ICLORA_LOG=info`` shows what happens."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(levelname)s: %(message)s"))
    ours = logging.getLogger("iclora")
    ours.setLevel(os.environ.get("ICLORA_LOG", "warning").upper())
    handler.setLevel(ours.level)
    ours.handlers = [handler]
