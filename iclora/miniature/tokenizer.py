"""Tokenizer of the whole family, with one token per word of the closed vocabulary.

Other text splits into the bytes of its words, so nothing is unknown and decoding is lossless. Saved
as a plain ``PreTrainedTokenizerFast``, because transformers rebuilds the named classes
(``CLIPTokenizer``, ``T5TokenizerFast``) from their own algorithms and would lose this one.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from iclora.miniature.captions import vocabulary
from iclora.miniature.script import NAMES

PAD: Final = "<|pad|>"
START: Final = "<|start|>"
IMAGE: Final = "<|image|>"
END: Final = "<|end|>"
"""Token with the highest id, because CLIP pools at the largest id."""

MARKERS: Final = (
    "[MOVIE-SHOTS]",
    *(f"[SCENE-{number}]" for number in range(1, 10)),
    *("[LEFT]", "[RIGHT]", "[TOP]", "[BOTTOM]"),
    *("[TOP-LEFT]", "[TOP-RIGHT]", "[BOTTOM-LEFT]", "[BOTTOM-RIGHT]"),
)

Framing = Literal["both", "end", "none"]
"""Special tokens around a text: CLIP has both, T5 the end, a chat template none."""

_SPACE = "\u0120"
"""Space before a word in the byte-level alphabet."""

_INNER = "##"
"""Prefix of tokens that do not begin a word."""

_LONGEST_WORD = 4096
"""Maximum length of a word in bytes; the library's default of 100 makes longer words unknown."""


def build_tokenizer(framing: Framing, *, context: int) -> PreTrainedTokenizerFast:
    """Builds the tokenizer.

    Args:
        framing: Special tokens around a text.
        context: Maximum number of tokens, including special ones.
    """
    tokenizer = Tokenizer(
        models.WordPiece(
            _token_ids(),
            unk_token=PAD,
            continuing_subword_prefix=_INNER,
            max_input_chars_per_word=_LONGEST_WORD,
        )
    )
    tokenizer.add_special_tokens([PAD, START, IMAGE, END])
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in MARKERS])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_INNER, ""), decoders.Fuse(), decoders.ByteLevel()]
    )
    tokenizer.post_processor = _frame(framing, tokenizer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        unk_token=PAD,
        model_max_length=context,
        padding_side="left" if framing == "none" else "right",
        clean_up_tokenization_spaces=False,
    )


def token_id(token: str) -> int:
    """Returns the id of a token, which is the same in every tokenizer of the family."""
    return _token_ids()[token]


def framing_ids() -> dict[str, Any]:
    """Returns the ids of special tokens under their names in a model's config."""
    ids = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}
    return {name: token_id(token) for name, token in ids.items()}


def vocabulary_size() -> int:
    """Returns the number of tokens."""
    return len(_token_ids())


def _token_ids() -> dict[str, int]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [_SPACE + word for word in vocabulary()]
    tokens = [PAD, START, IMAGE, *MARKERS, *alphabet, *(_INNER + piece for piece in alphabet)]
    tokens += [*words, *NAMES, _SPACE + "<", END]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def _frame(framing: Framing, tokenizer: Tokenizer) -> processors.TemplateProcessing:
    single = {"both": f"{START} $A {END}", "end": f"$A {END}", "none": "$A"}[framing]
    known = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    return processors.TemplateProcessing(single=single, special_tokens=known)
