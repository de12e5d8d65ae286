"""Detection of person mentions in captions, and matching of descriptions.

A small grammar of noun phrases ("a boy with red hair and a blue shirt") keeps the matching readable
and deterministic. It covers English only, as captions must be English. A language model would
defeat the purpose of merging without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from iclora.captioning.caption_text import word_set

Kind = Literal["male", "female", "any"]

_MALE = "man boy gentleman guy father grandfather brother son king prince lad actor waiter"
_FEMALE = "woman girl lady mother grandmother sister daughter queen princess actress waitress bride"
_ANY = (
    "person child kid toddler baby infant figure character teenager youth adult "
    "hero protagonist villain traveller traveler hiker driver rider dancer singer musician artist "
    "painter chef doctor nurse teacher student soldier officer detective archaeologist scientist "
    "astronaut knight warrior wizard witch robot worker farmer fisherman sailor cyclist skier"
)
KINDS: Final[dict[str, Kind]] = {
    **dict.fromkeys(_MALE.split(), "male"),
    **dict.fromkeys(_FEMALE.split(), "female"),
    **dict.fromkeys((*_ANY.split(), "someone", "somebody"), "any"),
}
"""Singular nouns for persons and the sex they imply."""

PRONOUNS: Final[dict[str, Kind]] = {
    **dict.fromkeys(("he", "him", "his", "himself"), "male"),
    **dict.fromkeys(("she", "her", "hers", "herself"), "female"),
}

_LOOKS = (
    "hair beard moustache mustache eyes glasses sunglasses shirt t-shirt blouse dress skirt coat "
    "jacket sweater jumper hoodie suit uniform robe hat cap helmet scarf tie trousers jeans shorts "
    "boots cloak mask bow ribbon vest apron"
)
_NOUNS = "|".join((*_MALE.split(), *_FEMALE.split(), *_ANY.split()))
_WORD = (
    r"(?!(?:an?|the|of|like|in|on|at|by|to|with|and|or|for|from|as|is|that|who|wearing|"
    rf"{_NOUNS})\b)[\w'-]+"
)
"""Word that may occur between an article and its noun."""

_LOOK = rf"(?:(?:an?|the|his|her|their)\s+)?(?:{_WORD}\s+){{0,3}}?(?:{'|'.join(_LOOKS.split())})\b"
_JOIN = r"(?:,\s*(?:and\s+)?|\s+and\s+|\s+)(?:(?:with|in|wearing)\s+)?"
_PHRASE = re.compile(
    rf"\b(?:(?P<article>an?|another|one|the|this|that)\s+(?P<before>(?:{_WORD},?\s+){{0,4}}?)"
    rf"(?P<noun>{_NOUNS})|(?P<nobody>someone|somebody))\b"
    rf"(?P<looks>,?\s+(?:with|in|wearing|who has|who wears)\s+{_LOOK}(?:{_JOIN}{_LOOK})*\b)?",
    re.IGNORECASE,
)
_ONE_LOOK = re.compile(
    rf"(?P<how>(?:[\w'-]+\s+)*?)(?P<look>{'|'.join(_LOOKS.split())})\b", re.IGNORECASE
)
_HAIRED = re.compile(r"\b(\w+)[- ]haired\b", re.IGNORECASE)
_FILLERS = word_set("a an the his her their with in and wearing who has wears")


class Person(NamedTuple):
    """Mention of a person in a text."""

    start: int
    end: int
    """End of the phrase, which is ``text[start:end]``."""

    words: str
    definite: bool
    """True for ``the boy``, false for ``a boy``."""

    kind: Kind
    dress: str
    """Trailing description of appearance, such as `` with red hair``."""

    looks: dict[str, str]
    """Mapping of features (hair, shirt) to their descriptions (``curly red``)."""


def people_in(text: str) -> Iterator[Person]:
    """Yields mentions of single persons by noun, from left to right."""
    for match in _PHRASE.finditer(text):
        looks = {
            look["look"].lower(): " ".join(
                word for word in look["how"].lower().split() if word not in _FILLERS
            )
            for look in _ONE_LOOK.finditer(match["looks"] or "")
        }
        if haired := _HAIRED.search(match["before"] or ""):
            looks.setdefault("hair", haired[1].lower())
        yield Person(
            start=match.start(),
            end=match.end(),
            words=match.group(),
            definite=(match["article"] or "").lower() in {"the", "this", "that"},
            kind=KINDS[(match["noun"] or match["nobody"]).lower()],
            dress=match["looks"] or "",
            looks=looks,
        )


def likeness(first: Person, second: Person) -> int:
    """Computes the number of matching features minus the number of conflicting ones."""
    shared = [look for look in first.looks if look in second.looks]
    return sum(1 if first.looks[look] == second.looks[look] else -1 for look in shared)


def opposite(first: Kind, second: Kind) -> bool:
    """Returns true if two kinds cannot refer to the same person."""
    return {first, second} == {"male", "female"}


def may_be_same(first: Person, second: Person) -> bool:
    """Returns true if descriptions from different panels may refer to one person.

    They may unless the nouns contradict each other or more features conflict than match: a
    captioner that misreads one of three features must not split a person in two.
    """
    return not opposite(first.kind, second.kind) and likeness(first, second) >= 0
