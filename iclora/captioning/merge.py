"""Rule-based merging of panel descriptions into one caption.

For captioners that only describe images, such as BLIP. Mentions that may refer to the same person
get the same name. Appearance, and the place and light that all panels share, appear once in the
summary or are left to the images; the panels keep what differs. The result follows the caption
format: an informative summary and one clause per panel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from iclora.captioning.caption_text import flatten, roles_in, word_set
from iclora.captioning.people import Kind, Person, likeness, may_be_same, opposite, people_in
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
        return max(
            self.mentions,
            key=lambda person: sum(likeness(person, mention) for mention in self.mentions),
        )


def merge_by_rules(
    parts: Sequence[str], names: Mapping[str, Kind], params: CaptionParams, *, captioner: str
) -> Caption:
    """Merges panel descriptions into a caption.

    Args:
        parts: Panel descriptions without markers and names, one per panel.
        names: Role names in the order in which they are assigned, with the sex that each implies.
        params: Provides the task prefix and the kind of summary.
        captioner: Label of the captioner that described the panels.

    Returns:
        A caption in the expected format; its content is left to the linter.
    """
    cleaned = [clean(part) for part in parts]
    clauses, roles = _name_people(cleaned, names)
    clauses, common = take_common(clauses)
    if params.summary == "looks":
        summary = _looks_summary(roles, common, cleaned[0])
    else:
        summary = _story_summary(roles, clauses)
    closed = [f"{clause}," for clause in clauses[:-1]] + [f"{clauses[-1]}."]
    return Caption(
        prefix=params.prefix,
        summary=f"{summary};",
        parts=tuple(closed),
        roles=roles_in(" ".join([summary, *closed])),
        captioner=captioner,
    )


def clean(part: str) -> str:
    """Reduces a description to one clause without "the image shows" and full stops."""
    line = _LEAD.sub("", flatten(part).strip("\"' "))
    for end in reversed(sentence_ends(line)):
        line = f"{line[:end].rstrip(_TRIM)}, {_lowered(line[end:].lstrip())}"
    return _lowered(line.strip(_TRIM))


def _name_people(clauses: Sequence[str], names: Mapping[str, Kind]) -> tuple[list[str], list[Role]]:
    """Replaces every person with a role name; mentions of the same person share a name."""
    roles: list[Role] = []
    cast: list[list[tuple[Person, int]]] = []  # per clause: persons and role indices
    for clause in clauses:
        present: list[tuple[Person, int]] = []
        for person in people_in(clause):
            taken = {index for _, index in present}
            present.append((person, _role_of(person, roles, names, taken)))
        cast.append(present)
    named: list[str] = []
    for clause, present in zip(clauses, cast, strict=True):
        text = clause
        for person, index in reversed(present):
            # The summary tells a role's appearance; only what differs from it stays here.
            is_new = not set(person.looks) <= set(roles[index].looks_best().looks)
            dress = person.dress if is_new else ""
            after = text[person.end :]
            if not dress and "," in person.dress and after.startswith(","):
                after = after[1:]  # drops the closing comma of "a boy, in a hat, waves"
            text = f"{text[: person.start]}<{roles[index].name}>{dress}{after}"
        named.append(text)
    return named, roles


def _role_of(
    person: Person, roles: list[Role], names: Mapping[str, Kind], present: set[int]
) -> int:
    """Returns the index of the most similar role not yet in this panel, or of a new role."""
    candidates = [
        index
        for index, role in enumerate(roles)
        if index not in present and all(may_be_same(person, mention) for mention in role.mentions)
    ]
    if candidates:
        best = max(candidates, key=lambda index: likeness(person, roles[index].mentions[0]))
        roles[best] = Role(roles[best].name, (*roles[best].mentions, person))
        return best
    taken = {role.name for role in roles}
    fitting = [name for name, kind in names.items() if not opposite(kind, person.kind)]
    spare = f"Nobody{len(roles)}"  # more persons than names: not a usable caption
    name = next((name for name in (*fitting, *names) if name not in taken), spare)
    roles.append(Role(name, (person,)))
    return len(roles) - 1


def take_common(clauses: Sequence[str]) -> tuple[list[str], list[str]]:
    """Extracts the phrases of place and light that all clauses share.

    Returns:
        The shortened clauses, and the shared phrases.
    """
    rest, common = list(clauses), list[str]()
    while len(common) < _MOST_COMMON and (phrase := _common_phrase(rest)):
        common.append(phrase)
        shorter = [_phrase_pattern(phrase).sub("", clause, count=1) for clause in rest]
        rest = [re.sub(r"\s*,\s*,", ",", clause).strip(_TRIM) for clause in shorter]
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
            if "<" not in phrase and all(
                _phrase_pattern(phrase).search(clause) for clause in clauses
            ):
                best = max(best, phrase, key=len)
                break
    return best


def _phrase_pattern(phrase: str) -> re.Pattern[str]:
    """Builds a pattern for a complete phrase: "in a red" does not match before "room"."""
    words = r"\W+".join(map(re.escape, re.findall(r"[\w'-]+", phrase)))
    return re.compile(rf"[\s,]*\b{words}(?=\s*$|\s*[,;:.!?]|\s+(?:{_FOLLOWERS}|\w+ing)\b)")


def _looks_summary(roles: Sequence[Role], common: Sequence[str], first: str) -> str:
    """Builds a summary such as ``a story of <Ann>, a girl with red hair, on a beach``."""
    introductions: list[str] = []
    for role in roles:
        words = _lowered(role.looks_best().words)
        # An unknown kind leaves only the appearance: ``<Ann> with red hair``.
        looks = re.sub(r"^(?:someone|somebody)\b,?\s*", "", words)
        is_known = looks == words
        introductions.append(
            f"<{role.name}>, {words}," if is_known else f"<{role.name}> {looks}".strip()
        )
    if introductions:
        return f"a story of {' '.join([' and '.join(introductions), *common])}".rstrip(_TRIM)
    return f"pictures {' '.join(common)}" if common else f"pictures that begin with {_theme(first)}"


def _story_summary(roles: Sequence[Role], clauses: Sequence[str]) -> str:
    """Builds a summary of actions only: ``a story of <Ann> waving and reading a book``."""
    stories: list[str] = []
    for role in roles:
        pattern = re.compile(
            rf"<{re.escape(role.name)}> (\w+ing\b[^,;.<]*?)(?:\s+(?:and|while|as))?"
            r"\s*(?=[,;.<]|$)"
        )
        actions = [match.group(1) for clause in clauses for match in pattern.finditer(clause)]
        if actions:
            listed = " and ".join(", ".join(dict.fromkeys(actions)).rsplit(", ", 1))
            stories.append(f"<{role.name}> {listed}")
    if stories:
        return f"a story of {' and '.join(stories)}"
    theme = _theme(clauses[0])
    if not roles:
        return f"pictures that begin with {theme}"
    names = " and ".join(f"<{role.name}>" for role in roles)
    return f"a story of {names} that begins with {theme}"


def _theme(clause: str) -> str:
    return " ".join(clause.partition(",")[0].split()[:_LONGEST_THEME])


def _lowered(text: str) -> str:
    """Lowercases the first letter of a former sentence; names and ``I`` stay capitalized."""
    word = text.partition(" ")[0]
    is_ordinary = word == "A" or (len(word) > 1 and word.lower() in _OPENERS)
    return text[:1].lower() + text[1:] if is_ordinary else text
