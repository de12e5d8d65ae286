"""Rule-based merging of panel descriptions into one caption.

For captioners that only describe images, such as BLIP. Mentions that may refer to the same person
get the same name. Appearance, and the place and light that all panels share, appear once in the
summary or are left to the images; the panels keep what differs. The result follows the caption
format: an informative summary and one clause per panel.
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
"""Words that can only follow a complete phrase."""

_OPENERS: Final = word_set(
    "a an the this that these those two three some someone somebody in on at by under with he she "
    "his her it they their there behind near inside outside"
)
"""Words that begin sentences and are not names."""

_TRIM: Final = " ,.;:!?"
_MOST_COMMON: Final = 3
"""Maximum number of shared phrases moved to the summary: place, light and one more."""

_LONGEST_THEME: Final = 12
"""Maximum number of words of the first panel that form the summary if the panels share nothing."""


class Role(NamedTuple):
    """Named person of a set."""

    name: str
    mentions: tuple[Person, ...]

    def looks_best(self) -> Person:
        """Returns the mention that agrees most with the others, to outvote a misread detail."""
        return max(self.mentions, key=lambda one: sum(likeness(one, two) for two in self.mentions))


def merge_by_rules(
    parts: Sequence[str], names: Sequence[FirstName], params: CaptionParams, *, captioner: str
) -> Caption:
    """Merges panel descriptions into a caption.

    Args:
        parts: Panel descriptions without markers and names, one per panel.
        names: Role names in the order in which they are assigned.
        params: Provides the task prefix and the kind of summary.
        captioner: Label of the captioner that described the panels.

    Returns:
        A caption in the expected format; its content is left to the linter.
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
    """Reduces a description to one clause without "the image shows" and full stops."""
    line = _LEAD.sub("", flatten(part).strip("\"' "))
    for end in reversed(sentence_ends(line)):
        line = f"{line[:end].rstrip(_TRIM)}, {_lowered(line[end:].lstrip())}"
    return _lowered(line.strip(_TRIM))


def name_people(clauses: Sequence[str], names: Sequence[FirstName]) -> tuple[list[str], list[Role]]:
    """Replaces every person with a role name; mentions of the same person share a name."""
    roles: list[Role] = []
    cast: list[list[tuple[Person, int]]] = []  # per clause: persons and role indices
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
    """Returns the index of the most similar role not yet in this panel, or of a new role."""
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
    spare = f"Nobody{len(roles)}"  # more persons than names: not a usable caption
    roles.append(Role(free[0] if free else spare, (person,)))
    return len(roles) - 1


def _with_names(clause: str, people: Sequence[tuple[Person, Role]]) -> str:
    """Replaces persons with names and keeps only appearance that the summary does not cover."""
    text = clause
    for person, role in reversed(people):
        is_new = not set(person.looks) <= set(role.looks_best().looks)
        dress = person.dress if is_new else ""
        behind = text[person.end :]
        if not dress and "," in person.dress and behind.startswith(","):
            behind = behind[1:]  # drops the closing comma of "a boy, in a hat, waves"
        text = f"{text[: person.start]}<{role.name}>{dress}{behind}"
    return text


def take_common(clauses: Sequence[str]) -> tuple[list[str], list[str]]:
    """Extracts the phrases of place and light that all clauses share.

    Returns:
        The shortened clauses, and the shared phrases.
    """
    rest, common = list(clauses), list[str]()
    while len(common) < _MOST_COMMON and (phrase := _common_phrase(rest)):
        common.append(phrase)
        rest = [_without(clause, phrase) for clause in rest]
    return rest, common


def _common_phrase(clauses: Sequence[str]) -> str:
    """Returns the longest complete prepositional phrase that every clause contains."""
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
    """Builds a pattern for a complete phrase: "in a red" does not match before "room"."""
    words = r"\W+".join(map(re.escape, re.findall(r"[\w'-]+", phrase)))
    return re.compile(rf"[\s,]*\b{words}(?=\s*$|\s*[,;:.!?]|\s+(?:{_FOLLOWERS}|\w+ing)\b)")


def _without(clause: str, phrase: str) -> str:
    shorter = _place(phrase).sub("", clause, count=1)
    return re.sub(r"\s*,\s*,", ",", shorter).strip(_TRIM)


def _summary(roles: Sequence[Role], common: Sequence[str], first: str) -> str:
    """Builds a summary such as ``a story of <Ann>, a girl with red hair, on a beach``."""
    who = " and ".join(_introduced(role) for role in roles)
    if who:
        return f"a story of {' '.join([who, *common])}".rstrip(_TRIM)
    return f"pictures {' '.join(common)}" if common else f"pictures that begin with {_theme(first)}"


def _story(roles: Sequence[Role], clauses: Sequence[str]) -> str:
    """Builds a summary of actions only: ``a story of <Ann> waving and reading a book``."""
    told = [f"<{role.name}> {deeds}" for role in roles if (deeds := _deeds(role, clauses))]
    if told:
        return f"a story of {' and '.join(told)}"
    theme = _theme(clauses[0])
    who = " and ".join(f"<{role.name}>" for role in roles)
    return (
        f"a story of {who} that begins with {theme}" if who else f"pictures that begin with {theme}"
    )


def _deeds(role: Role, clauses: Sequence[str]) -> str:
    """Lists a role's distinct actions, such as ``waving, running and reading a book``."""
    doing = re.compile(
        rf"<{re.escape(role.name)}> (\w+ing\b[^,;.<]*?)(?:\s+(?:and|while|as))?\s*(?=[,;.<]|$)"
    )
    found = [match.group(1) for clause in clauses for match in doing.finditer(clause)]
    return " and ".join(", ".join(dict.fromkeys(found)).rsplit(", ", 1))


def _theme(clause: str) -> str:
    return " ".join(clause.partition(",")[0].split()[:_LONGEST_THEME])


def _introduced(role: Role) -> str:
    """Introduces a role, such as ``<Ann>, a girl with red hair,``.

    An unknown kind leaves only the appearance.
    """
    words = _lowered(role.looks_best().words)
    bare = re.sub(r"^(?:someone|somebody)\b,?\s*", "", words)
    return f"<{role.name}>, {words}," if bare == words else f"<{role.name}> {bare}".strip()


def _lowered(text: str) -> str:
    """Lowercases the first letter of a former sentence; names and ``I`` stay capitalized."""
    word = text.partition(" ")[0]
    is_ordinary = word == "A" or (len(word) > 1 and word.lower() in _OPENERS)
    return text[:1].lower() + text[1:] if is_ordinary else text
