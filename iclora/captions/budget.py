"""How many tokens a caption costs the target base's text encoder."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from iclora.captions.draft import CountTokens

_PIECE = re.compile(r"[^\W\d_]+|\d|[^\w\s]|_")
_LETTERS_A_TOKEN = 3
BOUND = "upper bound: one token for every 3 letters of a word, each digit and each mark"
"""What is counted without a tokenizer; the card says so.

T5's SentencePiece model (32,000 pieces) and CLIP's byte pairs need about 1.3 tokens for an English
word; 3 letters a token is 1.9 for the mean word. It can be too small only for texts full of made-up
words, of which a caption's language rule has something to say.
"""


@lru_cache
def token_counter(tokenizer: str = "") -> CountTokens:
    """Counts tokens, the closing one included.

    Args:
        tokenizer: folder or hub id; empty for the upper bound.

    Raises:
        MissingModel: the tokenizer is not on this machine.
    """
    if not tokenizer:
        return token_bound
    from iclora.models.tokens import load_counter

    return load_counter(tokenizer)


def token_bound(text: str) -> int:
    """An upper bound of the tokens of an English text."""
    pieces = _PIECE.findall(text)
    return 1 + sum(-(-len(piece) // _LETTERS_A_TOKEN) for piece in pieces)


def counted_by(tokenizer: str) -> str:
    """How tokens are counted, for the card; without the paths of this machine."""
    return Path(tokenizer).name if Path(tokenizer).is_dir() else tokenizer or BOUND
