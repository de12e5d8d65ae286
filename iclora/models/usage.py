"""How much captioners read and wrote in this process; what comes from a cache costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple, cast


class TokenUsage(NamedTuple):
    """Answers and tokens since the process began; a picture counts as the model counts it."""

    asked: int = 0
    read: int = 0
    written: int = 0


class _Meter:
    spent = TokenUsage()
    lock = Lock()


def token_usage() -> TokenUsage:
    """What was spent so far."""
    return _Meter.spent


def record_answers(answers: int, read: int, written: int) -> None:
    """Adds what some answers cost."""
    with _Meter.lock:
        before = _Meter.spent
        _Meter.spent = TokenUsage(
            before.asked + answers, before.read + read, before.written + written
        )


def note_usage(usage: object) -> None:
    """Adds one answer of a server, which may say what it cost (``usage`` of a completion)."""
    counts = cast("Mapping[str, Any]", usage) if isinstance(usage, Mapping) else {}
    record_answers(
        1, *(_count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    )


def _count(said: object) -> int:
    return said if isinstance(said, int) and said > 0 else 0
