"""What the miniature FLUX reads: captions with some attributes left open, in phrases as tokens.

The tokenizer knows the phrases of the closed vocabulary as one token each ("a red shirt", "in the
forest"), as SentencePiece does when it may cross blanks: a caption of three clauses is 43 tokens
instead of 93, and text tokens cost as much as picture tokens. Single words, and the bytes of
unknown ones, are tokens as well.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from iclora.miniature.captions import (
    EVERYTHING,
    NOBODY,
    PHRASES,
    PREFIX,
    panel_caption,
    set_caption,
    vocabulary,
)
from iclora.miniature.script import NAMES
from iclora.miniature.tokenizer import END, MARKERS, PAD, START
from iclora.miniature.world import IDENTITY, SETTING, STAGING, VALUES, Attributes, chance

CONTEXT: Final = 48
"""Tokens of a caption: three clauses that tell everything fit."""

PANELS: Final = 3
_BLANK: Final = "\u2581"
_GLUE: Final = ("a story of", "unrelated pictures", ",", ";", ".", "with", "and", "<", ">")

Told = tuple[int, ...]
"""The place in ``VALUES`` of each attribute of a panel, -1 where the caption leaves it open."""


class Lesson(NamedTuple):
    """A caption and what it tells of each of its panels."""

    caption: str
    told: tuple[Told, ...]


def phrase_tokenizer(framing: Literal["both", "end"]) -> PreTrainedTokenizerFast:
    """The tokenizer of CLIP's text tower (``both``: a start and an end) or of T5 (``end``)."""
    pieces = _pieces()
    tokenizer = Tokenizer(models.Unigram(list(pieces.items()), unk_id=0, byte_fallback=True))
    tokenizer.add_special_tokens([PAD, START, END])
    tokenizer.add_tokens([AddedToken(marker, lstrip=True) for marker in MARKERS])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_BLANK, split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Replace(_BLANK, " "),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}" if framing == "both" else f"$A {END}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (START, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        unk_token=PAD,
        model_max_length=CONTEXT + 2 if framing == "both" else CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def token_ids() -> dict[str, int]:
    """Every token and its id; the end has the highest, because CLIP pools where the id is."""
    return {piece: number for number, piece in enumerate(_pieces())}


def single_lesson(attributes: Attributes, rng: random.Random) -> Lesson:
    """One panel without a marker."""
    named = _named(EVERYTHING, rng)
    return Lesson(panel_caption(attributes, _role(rng), named), (_told(attributes, named),))


def mosaic_lesson(panels: Sequence[Attributes], rng: random.Random) -> Lesson:
    """Unrelated panels, each told by its own clause."""
    named = [_named(EVERYTHING, rng) for _ in panels]
    parts = [
        f"[SCENE-{number}] {panel_caption(panel, _role(rng), names)}"
        for number, (panel, names) in enumerate(zip(panels, named, strict=True), 1)
    ]
    told = tuple(_told(panel, names) for panel, names in zip(panels, named, strict=True))
    return Lesson(f"{PREFIX} unrelated pictures; {', '.join(parts)}.", told)


def shared_names(rng: random.Random) -> frozenset[str]:
    """What the summary of a set tells."""
    return _named(IDENTITY | SETTING, rng)


def set_lesson(panels: Sequence[Attributes], summary: frozenset[str], rng: random.Random) -> Lesson:
    """Panels that share what the summary tells; everything else is each panel's own."""
    clauses = _named(STAGING, rng)
    caption = set_caption(panels, _role(rng), summary=summary, clauses=clauses)
    return Lesson(caption, tuple(_told(panel, summary | clauses) for panel in panels))


def _named(names: frozenset[str], rng: random.Random) -> frozenset[str]:
    """Everything in three cases of five, else each attribute in one case of two."""
    if chance(rng, 60):
        return names
    return frozenset(name for name in sorted(names) if chance(rng, 50))


def _role(rng: random.Random) -> str | None:
    return rng.choice(NAMES) if chance(rng, 60) else None


def _told(attributes: Attributes, named: frozenset[str]) -> Told:
    pairs = zip(VALUES, attributes.indices(), strict=True)
    return tuple(place if name in named else -1 for name, place in pairs)


def _pieces() -> dict[str, float]:
    """Tokens with their log-probabilities: fewest tokens win, bytes only if nothing else fits."""
    phrases = [phrase for group in PHRASES.values() for phrase in group.values()]
    shots = [f"a {phrase} of" for phrase in PHRASES["shot"].values()]
    roles = [NOBODY, *(f"<{name}>" for name in NAMES)]
    whole = [*phrases, *shots, *roles, *_GLUE, *vocabulary()]
    spelled = [_BLANK + text.replace(" ", _BLANK) for text in whole]
    marks = [text for text in _GLUE if not text[0].isalpha()]
    known = [*MARKERS, *spelled, *marks, _BLANK]
    octets = [f"<0x{number:02X}>" for number in range(256)]
    scores = dict.fromkeys([PAD, START], 0.0) | dict.fromkeys(known, -1.0)
    return scores | dict.fromkeys(octets, -10.0) | {END: 0.0}
