"""Tokens: counts by a model's own tokenizer, and usage of the captioners in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, NamedTuple, cast

from iclora.errors import BadConfig
from iclora.models.loaded import cached_model
from iclora.models.locate import locate


class TokenUsage(NamedTuple):
    """Answers and tokens since process start; cached answers are free."""

    asked: int = 0
    read: int = 0
    """Tokens read, with image tokens as counted by the model."""

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
        asked, read_before, written_before = _Meter.spent
        _Meter.spent = TokenUsage(asked + answers, read_before + read, written_before + written)


def note_usage(usage: object) -> None:
    """Adds one server answer from the completion's ``usage`` field, if present."""
    counts = cast("Mapping[str, Any]", usage) if isinstance(usage, Mapping) else {}
    values = (counts.get(name) for name in ("prompt_tokens", "completion_tokens"))
    read, written = (value if isinstance(value, int) and value > 0 else 0 for value in values)
    record_answers(1, read, written)


@cached_model(4)
def load_token_counter(name: str) -> Callable[[str], int]:
    """Returns a function that counts a text's tokens, including special tokens.

    Args:
        name: folder or hub id of a tokenizer, or of a pipeline whose longest text encoder's
            tokenizer is in ``tokenizer_2`` (FLUX.1) or ``tokenizer``.

    Raises:
        MissingModel: the tokenizer is not on this machine.
        BadConfig: the folder holds no tokenizer.
    """
    from transformers import AutoTokenizer

    folder = locate(name, weights=False).folder
    inner = [folder / part for part in ("tokenizer_2", "tokenizer") if (folder / part).is_dir()]
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            inner[0] if inner else folder, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise BadConfig(f"{name} holds no tokenizer that transformers can read") from error
    return lambda text: len(tokenizer(text, truncation=False, verbose=False)["input_ids"])
