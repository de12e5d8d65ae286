"""Who is who: everybody seen is named, one name per role, one role per name, no famous names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from iclora.captions.draft import Draft, Rule
from iclora.captions.names import plain
from iclora.captions.people import KINDS, PRONOUNS, Kind, Person, opposite, people_in
from iclora.captions.text import ROLE, roles_in, word_set
from schemas.caption import Fault

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
"""<Tom> and <Tommy>, <Ann> and <Anna> are one person under two spellings."""


def role_unnamed(draft: Draft) -> Fault | None:
    """Everybody who can be seen in a panel has a name in that panel's part."""
    for panel, part in enumerate(draft.caption.parts, 1):
        if who := _unnamed(part):
            sentence = f'"{who}" in panel {panel} has no name in <>; use the name in every panel.'
            return Fault(rule="role_unnamed", sentence=sentence, panel=panel)
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


def name_generic(draft: Draft) -> Fault | None:
    """A role's name is a name, not the word for a kind or a number."""
    for role in draft.caption.roles:
        if plain(role) in _GENERIC or _NUMBERED.search(role):
            sentence = f"<{role}> is the word for a kind, not a name; give a random first name."
            return Fault(rule="name_generic", sentence=sentence)
    return None


def name_forbidden(draft: Draft) -> Fault | None:
    """No role has the name of a film role or of a known person."""
    for role in draft.caption.roles:
        if plain(role) in draft.forbidden:
            sentence = f"<{role}> is the name of a film role or a known person; use a random one."
            return Fault(rule="name_forbidden", sentence=sentence)
    words = f" {' '.join(_WORD.findall(plain(draft.line)))} "
    for name in sorted(draft.forbidden):
        if " " in name and f" {' '.join(_WORD.findall(name))} " in words:
            sentence = f'"{name.title()}" is a film role or a known person; leave the name out.'
            return Fault(rule="name_forbidden", sentence=sentence)
    return None


def name_bare(draft: Draft) -> Fault | None:
    """A role's name always wears its brackets."""
    for role in draft.caption.roles:
        rest = ROLE.sub(" ", draft.line)
        if role[:1].isupper() and re.search(rf"\b{re.escape(role)}\b", rest):
            sentence = f"{role} appears without <>; write <{role}> everywhere."
            return Fault(rule="name_bare", sentence=sentence)
    return None


def role_two_names(draft: Draft) -> Fault | None:
    """Nobody has two names."""
    if alias := _ALIAS.search(draft.line):
        return _two_names(alias[1], alias[2])
    together = [set(roles_in(part)) for part in draft.caption.parts]
    for one, other in combinations(draft.caption.roles, 2):
        apart = not any({one, other} <= names for names in together)
        if apart and (_spelled_alike(one, other) or _described_alike(draft, one, other)):
            return _two_names(one, other)
    return None


def _two_names(one: str, other: str) -> Fault:
    sentence = f"<{one}> and <{other}> seem to be the same person; use one name."
    return Fault(rule="role_two_names", sentence=sentence)


def _spelled_alike(one: str, other: str) -> bool:
    short, long = sorted((one.lower(), other.lower()), key=len)
    return long.startswith(short) and len(long) - len(short) <= _MOST_LETTERS_APART


def _described_alike(draft: Draft, one: str, other: str) -> bool:
    """Both are introduced by the same noun and the same looks, of which there are at least two."""
    mine, theirs = list(_introductions(draft, one)), list(_introductions(draft, other))
    return any(
        len(a.looks) > 1 and a.looks == b.looks and not opposite(a.kind, b.kind)
        for a in mine
        for b in theirs
    )


def _introductions(draft: Draft, role: str) -> Iterator[Person]:
    """What a role is called right behind its name: ``<Ann>, a girl with red hair``."""
    for match in re.finditer(rf"<{re.escape(role)}>(?:,| is| as|, now)? ", draft.line):
        behind = draft.line[match.end() :]
        yield from (person for person in people_in(behind) if person.start == 0)


def name_two_roles(draft: Draft) -> Fault | None:
    """A name means one person from the first panel to the last."""
    for role in draft.caption.roles:
        people = list(_introductions(draft, role))
        if any(_differ(one, other) for one, other in combinations(people, 2)):
            return _two_roles(role, "is described as different persons")
    if len(draft.caption.roles) == 1 and not _others(draft):
        sexes: set[Kind] = {PRONOUNS[word] for word in _pronouns(draft.line)}
        if len(sexes) > 1:
            return _two_roles(draft.caption.roles[0], "is both 'he' and 'she'")
    return None


def _two_roles(role: str, what: str) -> Fault:
    return Fault(rule="name_two_roles", sentence=f"<{role}> {what}; give each their own name.")


def _differ(one: Person, other: Person) -> bool:
    """Clothes may change between shots; sex and hair do not."""
    hair = one.looks.get("hair"), other.looks.get("hair")
    return opposite(one.kind, other.kind) or (all(hair) and hair[0] != hair[1])


def _others(draft: Draft) -> bool:
    return sum(1 for _ in people_in(draft.line)) > 1


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
