"""Role rules of the caption linter: every person has one name, each name means one person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from iclora.captioning.caption_text import ROLE, roles_in, word_set
from iclora.captioning.people import KINDS, PRONOUNS, Kind, Person, opposite, people_in
from iclora.captioning.role_names import normalize
from iclora.captioning.rules_input import LintInput, Rule
from schemas.caption import CaptionFault

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


def role_unnamed(lint_input: LintInput) -> CaptionFault | None:
    """Checks that every person in a panel has a name in that panel's part."""
    for panel, part in enumerate(lint_input.caption.parts, 1):
        if who := _unnamed(part):
            sentence = f'"{who}" in panel {panel} has no name in <>; use the name in every panel.'
            return CaptionFault(rule="role_unnamed", sentence=sentence, panel=panel)
    return None


def _unnamed(part: str) -> str:
    named = bool(roles_in(part))
    for person in people_in(part):
        if not (named and person.definite) and not _has_name(part, person):
            return person.words
    if named:
        return ""
    words = _WORD.findall(part.lower())
    return next((word for word in words if word in PRONOUNS), "")


def _has_name(part: str, person: Person) -> bool:
    before, behind = part[: person.start], part[person.end :]
    return bool(_NAMED_BEFORE.search(before) or _NAMED_BEHIND.match(behind) or _LIKE.search(before))


def name_generic(lint_input: LintInput) -> CaptionFault | None:
    """Checks that role names are names, not generic nouns or numbers."""
    for role in lint_input.caption.roles:
        if normalize(role) in _GENERIC or _NUMBERED.search(role):
            sentence = f"<{role}> is the word for a kind, not a name; give a random first name."
            return CaptionFault(rule="name_generic", sentence=sentence)
    return None


def name_forbidden(lint_input: LintInput) -> CaptionFault | None:
    """Checks that no role has the name of a film role or a known person."""
    for role in lint_input.caption.roles:
        if normalize(role) in lint_input.forbidden:
            sentence = f"<{role}> is the name of a film role or a known person; use a random one."
            return CaptionFault(rule="name_forbidden", sentence=sentence)
    words = f" {' '.join(_WORD.findall(normalize(lint_input.line)))} "
    for name in sorted(lint_input.forbidden):
        if " " in name and f" {' '.join(_WORD.findall(name))} " in words:
            sentence = f'"{name.title()}" is a film role or a known person; leave the name out.'
            return CaptionFault(rule="name_forbidden", sentence=sentence)
    return None


def name_bare(lint_input: LintInput) -> CaptionFault | None:
    """Checks that role names always appear in angle brackets."""
    for role in lint_input.caption.roles:
        rest = ROLE.sub(" ", lint_input.line)
        if role[:1].isupper() and re.search(rf"\b{re.escape(role)}\b", rest):
            sentence = f"{role} appears without <>; write <{role}> everywhere."
            return CaptionFault(rule="name_bare", sentence=sentence)
    return None


def role_two_names(lint_input: LintInput) -> CaptionFault | None:
    """Checks that no person has two names."""
    if alias := _ALIAS.search(lint_input.line):
        return _two_names(alias[1], alias[2])
    together = [set(roles_in(part)) for part in lint_input.caption.parts]
    for one, other in combinations(lint_input.caption.roles, 2):
        apart = not any({one, other} <= names for names in together)
        if apart and (_spelled_alike(one, other) or _described_alike(lint_input, one, other)):
            return _two_names(one, other)
    return None


def _two_names(one: str, other: str) -> CaptionFault:
    sentence = f"<{one}> and <{other}> seem to be the same person; use one name."
    return CaptionFault(rule="role_two_names", sentence=sentence)


def _spelled_alike(one: str, other: str) -> bool:
    short, long = sorted((one.lower(), other.lower()), key=len)
    return long.startswith(short) and len(long) - len(short) <= _MOST_LETTERS_APART


def _described_alike(lint_input: LintInput, one: str, other: str) -> bool:
    """Returns true if both roles share a compatible noun and at least two identical features."""
    mine, theirs = list(_introductions(lint_input, one)), list(_introductions(lint_input, other))
    return any(
        len(a.looks) > 1 and a.looks == b.looks and not opposite(a.kind, b.kind)
        for a in mine
        for b in theirs
    )


def _introductions(lint_input: LintInput, role: str) -> Iterator[Person]:
    """Yields the descriptions right after a role's name: ``<Ann>, a girl with red hair``."""
    for match in re.finditer(rf"<{re.escape(role)}>(?:,| is| as|, now)? ", lint_input.line):
        behind = lint_input.line[match.end() :]
        yield from (person for person in people_in(behind) if person.start == 0)


def name_two_roles(lint_input: LintInput) -> CaptionFault | None:
    """Checks that each name refers to the same person in all panels."""
    for role in lint_input.caption.roles:
        people = list(_introductions(lint_input, role))
        if any(_differ(one, other) for one, other in combinations(people, 2)):
            return _two_roles(role, "is described as different persons")
    if len(lint_input.caption.roles) == 1 and not _others(lint_input):
        sexes: set[Kind] = {PRONOUNS[word] for word in _pronouns(lint_input.line)}
        if len(sexes) > 1:
            return _two_roles(lint_input.caption.roles[0], "is both 'he' and 'she'")
    return None


def _two_roles(role: str, what: str) -> CaptionFault:
    return CaptionFault(
        rule="name_two_roles", sentence=f"<{role}> {what}; give each their own name."
    )


def _differ(one: Person, other: Person) -> bool:
    """Returns true if sex or hair differ; clothes may change between shots."""
    hair = one.looks.get("hair"), other.looks.get("hair")
    return opposite(one.kind, other.kind) or (all(hair) and hair[0] != hair[1])


def _others(lint_input: LintInput) -> bool:
    return sum(1 for _ in people_in(lint_input.line)) > 1


def _pronouns(line: str) -> list[str]:
    return [word for word in _WORD.findall(line.lower()) if word in PRONOUNS]


ROLE_RULES: Final[tuple[Rule, ...]] = (
    name_forbidden,
    name_generic,
    name_bare,
    role_unnamed,
    role_two_names,
    name_two_roles,
)
