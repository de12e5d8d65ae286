"""How many tokens a caption costs the target base's text encoder."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from pathlib import Path

from iclora.captioning.rules_input import CountTokens
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
"""What is counted without a tokenizer; the card says so.

English prose costs sub-word tokenizers of 30,000 pieces and more about 1.3 tokens a word, this
bound 1.9 and more; words in capitals and other scripts fall apart into letters, and T5 has no piece
for ``<`` (a space and an unknown). Tests hold it against CLIP's byte pairs.
"""


def token_counter(tokenizer: str = "") -> CountTokens:
    """Counts tokens, the closing one included; without the tokenizer it is the upper bound.

    Args:
        tokenizer: folder or hub id; empty for the upper bound.
    """
    if not is_counted(tokenizer):
        return token_bound
    from iclora.models.token_counter import load_token_counter

    return load_token_counter(tokenizer)


@lru_cache
def is_counted(tokenizer: str) -> bool:
    """Whether a tokenizer is named and on this machine, so that tokens can be counted."""
    if not tokenizer:
        return False
    try:
        locate(tokenizer, weights=False)
    except MissingModel as error:
        log.warning("tokens of captions are not counted, an upper bound is taken: %s", error)
        return False
    return True


def token_bound(text: str) -> int:
    """An upper bound of the tokens of an English text."""
    return 1 + sum(_most_tokens(piece) for piece in _PIECE.findall(text))


def _most_tokens(piece: str) -> int:
    if piece == "<":
        return 2
    return -(-len(piece) // _LETTERS_PER_TOKEN) if _ORDINARY.fullmatch(piece) else len(piece)


def counted_by(tokenizer: str) -> str:
    """How tokens are counted, for the card; without the paths of this machine."""
    if not is_counted(tokenizer):
        return UPPER_BOUND
    return Path(tokenizer).name if Path(tokenizer).is_dir() else tokenizer
