"""Token usage of captioners in this process; cached answers are free."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple, cast


class TokenUsage(NamedTuple):
    """Answers and tokens since process start; image tokens as counted by the model."""

    asked: int = 0
    read: int = 0
    written: int = 0


class _Meter:
    spent = TokenUsage()
    lock = Lock()


def token_usage() -> TokenUsage:
    """Returns the usage so far."""
    return _Meter.spent


def record_answers(answers: int, read: int, written: int) -> None:
    """Adds the cost of one or more answers."""
    with _Meter.lock:
        before = _Meter.spent
        _Meter.spent = TokenUsage(
            before.asked + answers, before.read + read, before.written + written
        )


def note_usage(usage: object) -> None:
    """Adds one server answer from the completion's ``usage`` field, if present."""
    counts = cast("Mapping[str, Any]", usage) if isinstance(usage, Mapping) else {}
    record_answers(
        1, *(_count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    )


def _count(said: object) -> int:
    return said if isinstance(said, int) and said > 0 else 0
