"""Token counts of captions for the target base's text encoder."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from iclora.errors import MissingModel
from iclora.models.locate import locate

log = logging.getLogger(__name__)

_PIECE = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_")
_ORDINARY = re.compile(r"[A-Z]?[a-z]+")
_LETTERS_PER_TOKEN = 3
UPPER_BOUND = (
    "upper bound: a token for every 3 letters of an ordinary word, every other letter, digit and "
    "mark, and two for <"
)
"""Description of the estimate without a tokenizer, for the dataset card.

English prose costs about 1.3 tokens per word with subword tokenizers of 30,000 or more pieces;
this bound assumes at least 1.9. Words in capitals and other scripts split into letters, and T5
has no piece for ``<`` (a space and an unknown). Tests compare the bound with CLIP's byte pairs.
"""


def token_counter(tokenizer: str = "") -> Callable[[str], int]:
    """Returns a token counter that includes the closing token, or the upper bound.

    Args:
        tokenizer: Folder or Hub ID of the tokenizer; empty for the upper bound.
    """
    if not is_counted(tokenizer):
        return token_bound
    from iclora.models.tokens import load_token_counter

    return load_token_counter(tokenizer)


@lru_cache
def is_counted(tokenizer: str) -> bool:
    """Returns true if a tokenizer is configured and available locally."""
    if not tokenizer:
        return False
    try:
        locate(tokenizer, weights=False)
    except MissingModel as error:
        log.warning("tokens of captions are not counted, an upper bound is taken: %s", error)
        return False
    return True


def token_bound(text: str) -> int:
    """Computes an upper bound for the number of tokens of an English text."""
    tokens = 1
    for piece in _PIECE.findall(text):
        if piece == "<":
            tokens += 2
        elif _ORDINARY.fullmatch(piece):
            tokens += math.ceil(len(piece) / _LETTERS_PER_TOKEN)
        else:
            tokens += len(piece)
    return tokens


def counted_by(tokenizer: str) -> str:
    """Returns the token counting method for the dataset card, without local paths."""
    if not is_counted(tokenizer):
        return UPPER_BOUND
    return Path(tokenizer).name if Path(tokenizer).is_dir() else tokenizer
