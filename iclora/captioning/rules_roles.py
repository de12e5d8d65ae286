"""Role rules of the caption linter: every person has one name, each name means one person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from iclora.captioning.caption_text import ROLE, CaptionText, Finding, Rule, roles_in, word_set
from iclora.captioning.people import KINDS, PRONOUNS, Person, opposite, people_in
from iclora.captioning.role_names import forbidden_names, normalize

_GENERIC = frozenset(KINDS) | word_set(
    "animal dog cat fox badger mouse rat bear wolf lion tiger rabbit hare bird owl cow horse pig "
    "sheep goat duck hen fish frog squirrel monkey elephant people name role subject someone "
    "protagonist hero heroine friend couple crowd family x y z"
)
_NUMBERED = re.compile(
    r"\d|^(?:person|character|man|woman|boy|girl|role|name) [A-Z]$", re.IGNORECASE
)
_NAMED_BEFORE = re.compile(r"<[^<>]+>(?:,| is| was| as| now|, now| still| seen as)*,? $")
_NAMED_BEHIND = re.compile(r"^,? ?(?:(?:is )?(?:named|called) )?<[^<>]+>")
_LIKE = re.compile(
    r"\b(?:like|as if|resembling|dressed as|(?:statue|doll|painting|drawing|poster) of)\s+$",
    re.IGNORECASE,
)
_ALIAS = re.compile(
    r"<([^<>]+)>,? ?(?:\(|/|also known as|aka|a\.k\.a\.|or|alias|who is also called) ?<([^<>]+)>",
    re.IGNORECASE,
)
_WORD = re.compile(r"[\w'-]+")
_MOST_LETTERS_APART: Final = 2
"""Maximum number of extra letters in a second spelling of a name, such as <Tom> and <Tommy>."""


def role_unnamed(text: CaptionText) -> Finding | None:
    """Checks that every person in a panel has a name in that panel's part."""
    for panel, part in enumerate(text.caption.parts, 1):
        if person := _unnamed_person(part):
            return (
                f'"{person}" in panel {panel} has no name in <>; use the name in every panel.',
                panel,
            )
    return None


def _unnamed_person(part: str) -> str:
    """Returns the first noun phrase or pronoun without a name, or an empty string."""
    has_roles = bool(roles_in(part))
    for person in people_in(part):
        before, after = part[: person.start], part[person.end :]
        is_named = (
            (has_roles and person.definite)
            or _NAMED_BEFORE.search(before)
            or _NAMED_BEHIND.match(after)
            or _LIKE.search(before)
        )
        if not is_named:
            return person.words
    if has_roles:
        return ""
    return next((word for word in _WORD.findall(part.lower()) if word in PRONOUNS), "")


def name_generic(text: CaptionText) -> Finding | None:
    """Checks that role names are names, not generic nouns or numbers."""
    for role in text.caption.roles:
        if normalize(role) in _GENERIC or _NUMBERED.search(role):
            return f"<{role}> is the word for a kind, not a name; give a random first name.", 0
    return None


def name_forbidden(text: CaptionText) -> Finding | None:
    """Checks that no role has the name of a film role or a known person."""
    forbidden = forbidden_names(text.params.forbidden_names)
    for role in text.caption.roles:
        if normalize(role) in forbidden:
            return f"<{role}> is the name of a film role or a known person; use a random one.", 0
    words = f" {' '.join(_WORD.findall(normalize(text.line)))} "
    for name in sorted(forbidden):
        if " " in name and f" {' '.join(_WORD.findall(name))} " in words:
            return f'"{name.title()}" is a film role or a known person; leave the name out.', 0
    return None


def name_bare(text: CaptionText) -> Finding | None:
    """Checks that role names always appear in angle brackets."""
    rest = ROLE.sub(" ", text.line)
    for role in text.caption.roles:
        if role[:1].isupper() and re.search(rf"\b{re.escape(role)}\b", rest):
            return f"{role} appears without <>; write <{role}> everywhere.", 0
    return None


def role_two_names(text: CaptionText) -> Finding | None:
    """Checks that no person has two names."""
    names = None
    if alias := _ALIAS.search(text.line):
        names = alias[1], alias[2]
    else:
        panels = [set(roles_in(part)) for part in text.caption.parts]
        for pair in combinations(text.caption.roles, 2):
            appear_together = any(set(pair) <= roles for roles in panels)
            if not appear_together and (_spelled_alike(*pair) or _described_alike(text, *pair)):
                names = pair
                break
    if names is None:
        return None
    return f"<{names[0]}> and <{names[1]}> seem to be the same person; use one name.", 0


def _spelled_alike(first: str, second: str) -> bool:
    short, long = sorted((first.lower(), second.lower()), key=len)
    return long.startswith(short) and len(long) - len(short) <= _MOST_LETTERS_APART


def _described_alike(text: CaptionText, first: str, second: str) -> bool:
    """Returns true if both roles share a compatible noun and at least two identical features."""
    return any(
        len(a.looks) > 1 and a.looks == b.looks and not opposite(a.kind, b.kind)
        for a in _introductions(text, first)
        for b in _introductions(text, second)
    )


def _introductions(text: CaptionText, role: str) -> Iterator[Person]:
    """Yields the descriptions right after a role's name: ``<Ann>, a girl with red hair``."""
    for match in re.finditer(rf"<{re.escape(role)}>(?:,| is| as|, now)? ", text.line):
        after = text.line[match.end() :]
        yield from (person for person in people_in(after) if person.start == 0)


def name_two_roles(text: CaptionText) -> Finding | None:
    """Checks that each name refers to the same person in all panels."""
    fault = "<{}> {}; give each their own name."
    for role in text.caption.roles:
        for first, second in combinations(_introductions(text, role), 2):
            # Sex and hair stay the same; clothes may change between shots.
            hair = first.looks.get("hair"), second.looks.get("hair")
            if opposite(first.kind, second.kind) or (all(hair) and hair[0] != hair[1]):
                return fault.format(role, "is described as different persons"), 0
    if len(text.caption.roles) == 1 and sum(1 for _ in people_in(text.line)) <= 1:
        words = _WORD.findall(text.line.lower())
        if len({PRONOUNS[word] for word in words if word in PRONOUNS}) > 1:
            return fault.format(text.caption.roles[0], "is both 'he' and 'she'"), 0
    return None


ROLE_RULES: Final[tuple[Rule, ...]] = (
    name_forbidden,
    name_generic,
    name_bare,
    role_unnamed,
    role_two_names,
    name_two_roles,
)
