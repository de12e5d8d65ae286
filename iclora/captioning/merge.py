"""A caption out of descriptions of single panels, by rule.

For captioners that only describe pictures (the miniature's, BLIP and the like). Persons who may be
the same get the same name; what is said of a person's looks, and of the place and light where
every panel says the same, is told once, in the summary, or left to the pictures; the panels keep
what differs. So the text has the shape of the format: a summary that says something and one clause
a panel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from iclora.captioning.caption_text import flatten, roles_in, word_set
from iclora.captioning.people import Person, likeness, may_be_same, opposite, people_in
from iclora.captioning.role_names import FirstName
from iclora.captioning.rules_format import sentence_ends
from schemas.caption import Caption
from schemas.captioning import CaptionParams

_LEAD = re.compile(
    r"^(?:(?:the|this|that) (?:image|picture|photo|photograph|frame|panel|scene|shot)"
    r" (?:shows|depicts|features|captures|is of|is)|here is|there is|we see|i see)\s+",
    re.IGNORECASE,
)
_PREPOSITIONS: Final = word_set(
    "in on at by under over inside near beside behind before above below against during "
    "with among between beneath along outside"
)
_FOLLOWERS: Final = "|".join((*sorted(_PREPOSITIONS), "and", "while", "as", "where", "who"))
"""Words that can only stand behind a phrase that is over."""

_OPENERS: Final = word_set(
    "a an the this that these those two three some someone somebody in on at by under with he she "
    "his her it they their there behind near inside outside"
)
"""Words that begin sentences and are no names."""

_TRIM: Final = " ,.;:!?"
_MOST_COMMON: Final = 3
"""Phrases that are told once: place, light and one more."""

_LONGEST_THEME: Final = 12
"""Words of the first panel that make the summary when the panels have nothing in common."""


class Role(NamedTuple):
    """A person of the set."""

    name: str
    mentions: tuple[Person, ...]

    def looks_best(self) -> Person:
        """The mention that agrees most with the others: one misread look is outvoted."""
        return max(self.mentions, key=lambda one: sum(likeness(one, two) for two in self.mentions))


def merge_by_rules(
    parts: Sequence[str], names: Sequence[FirstName], params: CaptionParams, *, captioner: str
) -> Caption:
    """Makes a caption of the panels' descriptions.

    Args:
        parts: one description a panel, without markers and names.
        names: the names for roles, in the order in which they are given out.
        params: the task's prefix, and what the summary tells.
        captioner: who described the panels.

    Returns:
        A caption in the format; the linter judges what it says.
    """
    cleaned = [clean(part) for part in parts]
    clauses, roles = name_people(cleaned, names)
    clauses, common = take_common(clauses)
    tells_looks = params.summary == "looks"
    summary = _summary(roles, common, cleaned[0]) if tells_looks else _story(roles, clauses)
    closed = [f"{clause}," for clause in clauses[:-1]] + [f"{clauses[-1]}."]
    return Caption(
        prefix=params.prefix,
        summary=f"{summary};",
        parts=tuple(closed),
        roles=tuple(role for role in roles_in(" ".join([summary, *closed]))),
        captioner=captioner,
    )


def clean(part: str) -> str:
    """A description as one clause: one line, no "the image shows", no full stops."""
    line = _LEAD.sub("", flatten(part).strip("\"' "))
    for end in reversed(sentence_ends(line)):
        line = f"{line[:end].rstrip(_TRIM)}, {_lowered(line[end:].lstrip())}"
    return _lowered(line.strip(_TRIM))


def name_people(clauses: Sequence[str], names: Sequence[FirstName]) -> tuple[list[str], list[Role]]:
    """Puts a role's name in the place of every person; the same person gets the same name."""
    roles: list[Role] = []
    cast: list[list[tuple[Person, int]]] = []  # per clause: who, and which role
    for clause in clauses:
        present: list[tuple[Person, int]] = []
        for person in people_in(clause):
            taken = {place for _, place in present}
            present.append((person, _role_of(person, roles, names, taken)))
        cast.append(present)
    named = [
        _with_names(clause, [(person, roles[place]) for person, place in present])
        for clause, present in zip(clauses, cast, strict=True)
    ]
    return named, roles


def _role_of(
    person: Person, roles: list[Role], names: Sequence[FirstName], present: set[int]
) -> int:
    """The most alike known role that is not in this panel yet, or a new one."""
    known = [
        place
        for place, role in enumerate(roles)
        if place not in present and all(may_be_same(person, seen) for seen in role.mentions)
    ]
    if known:
        best = max(known, key=lambda place: likeness(person, roles[place].mentions[0]))
        roles[best] = Role(roles[best].name, (*roles[best].mentions, person))
        return best
    taken = {role.name for role in roles}
    fitting = [name for name in names if not opposite(name.kind, person.kind)]
    free = [name.name for name in (*fitting, *names) if name.name not in taken]
    spare = f"Nobody{len(roles)}"  # more persons than names: no caption worth keeping
    roles.append(Role(free[0] if free else spare, (person,)))
    return len(roles) - 1


def _with_names(clause: str, people: Sequence[tuple[Person, Role]]) -> str:
    """The clause with names for persons; looks stay only where the summary does not tell them."""
    text = clause
    for person, role in reversed(people):
        is_new = not set(person.looks) <= set(role.looks_best().looks)
        dress = person.dress if is_new else ""
        behind = text[person.end :]
        if not dress and "," in person.dress and behind.startswith(","):
            behind = behind[1:]  # the comma that closed "a boy, in a hat, waves"
        text = f"{text[: person.start]}<{role.name}>{dress}{behind}"
    return text


def take_common(clauses: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes out of the clauses the phrases of place and light that all of them say."""
    rest, common = list(clauses), list[str]()
    while len(common) < _MOST_COMMON and (phrase := _common_phrase(rest)):
        common.append(phrase)
        rest = [_without(clause, phrase) for clause in rest]
    return rest, common


def _common_phrase(clauses: Sequence[str]) -> str:
    """The longest whole phrase that begins with a preposition and is in every clause."""
    first = clauses[0].split()
    best = ""
    for start, word in enumerate(first):
        if word.lower() not in _PREPOSITIONS:
            continue
        for end in range(len(first), start + 1, -1):
            phrase = " ".join(first[start:end]).strip(_TRIM)
            if "<" not in phrase and all(_place(phrase).search(clause) for clause in clauses):
                best = max(best, phrase, key=len)
                break
    return best


def _place(phrase: str) -> re.Pattern[str]:
    """Finds a phrase where it is whole: "in a red" is none before "room"."""
    words = r"\W+".join(map(re.escape, re.findall(r"[\w'-]+", phrase)))
    return re.compile(rf"[\s,]*\b{words}(?=\s*$|\s*[,;:.!?]|\s+(?:{_FOLLOWERS}|\w+ing)\b)")


def _without(clause: str, phrase: str) -> str:
    shorter = _place(phrase).sub("", clause, count=1)
    return re.sub(r"\s*,\s*,", ",", shorter).strip(_TRIM)


def _summary(roles: Sequence[Role], common: Sequence[str], first: str) -> str:
    """``a story of <Ann>, a girl with red hair, on a beach``."""
    who = " and ".join(_introduced(role) for role in roles)
    if who:
        return f"a story of {' '.join([who, *common])}".rstrip(_TRIM)
    return f"pictures {' '.join(common)}" if common else f"pictures that begin with {_theme(first)}"


def _story(roles: Sequence[Role], clauses: Sequence[str]) -> str:
    """``a story of <Ann> waving and reading a book``: nothing of looks, place or light."""
    told = [f"<{role.name}> {deeds}" for role in roles if (deeds := _deeds(role, clauses))]
    if told:
        return f"a story of {' and '.join(told)}"
    theme = _theme(clauses[0])
    who = " and ".join(f"<{role.name}>" for role in roles)
    return (
        f"a story of {who} that begins with {theme}" if who else f"pictures that begin with {theme}"
    )


def _deeds(role: Role, clauses: Sequence[str]) -> str:
    """What a role is told to be doing, each once: ``waving, running and reading a book``."""
    doing = re.compile(
        rf"<{re.escape(role.name)}> (\w+ing\b[^,;.<]*?)(?:\s+(?:and|while|as))?\s*(?=[,;.<]|$)"
    )
    found = [match.group(1) for clause in clauses for match in doing.finditer(clause)]
    return " and ".join(", ".join(dict.fromkeys(found)).rsplit(", ", 1))


def _theme(clause: str) -> str:
    return " ".join(clause.partition(",")[0].split()[:_LONGEST_THEME])


def _introduced(role: Role) -> str:
    """``<Ann>, a girl with red hair,``; somebody whose kind is not known has only looks."""
    words = _lowered(role.looks_best().words)
    bare = re.sub(r"^(?:someone|somebody)\b,?\s*", "", words)
    return f"<{role.name}>, {words}," if bare == words else f"<{role.name}> {bare}".strip()


def _lowered(text: str) -> str:
    """A first letter that was a sentence's is lower case now; names and ``I`` stay."""
    word = text.partition(" ")[0]
    is_ordinary = word == "A" or (len(word) > 1 and word.lower() in _OPENERS)
    return text[:1].lower() + text[1:] if is_ordinary else text
