"""Captions of panels and sets in a small closed vocabulary.

Every value of every attribute has one phrase, and no two phrases share their telling word, so a
caption can be read back without a model (``attributes_in``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from iclora.miniature.script import NAMES
from iclora.miniature.world import IDENTITY, SETTING, STAGING, VALUES, Attributes

PREFIX: Final = "[MOVIE-SHOTS]"
EVERYTHING: Final = IDENTITY | SETTING | STAGING
NOBODY: Final = "someone"
"""Subject without a role name: a caption must not invent one."""

PHRASES: Final[dict[str, dict[str, str]]] = {
    "hair": {value: f"{value} hair" for value in VALUES["hair"]},
    "hat": {"none": "no hat", "cap": "a cap", "tall": "a top hat"},
    "shirt": {value: f"a {value} shirt" for value in VALUES["shirt"]},
    "place": {
        "beach": "on the beach",
        "forest": "in the forest",
        "city": "in the city",
        "snow": "in the snow",
        "room": "in a room",
    },
    "light": {"day": "by day", "sunset": "at sunset", "night": "at night"},
    "shot": {value: f"{value} shot" for value in VALUES["shot"]},
    "action": {
        "wave": "waving",
        "read": "reading a book",
        "balloon": "holding a balloon",
        "melon": "eating a melon",
    },
}


def panel_caption(
    attributes: Attributes, role: str | None = None, named: frozenset[str] = EVERYTHING
) -> str:
    """Describes one panel in a clause, such as ``a wide shot of <Ann> waving at night``.

    Args:
        attributes: Contents of the panel.
        role: The character's name without brackets; None names nobody.
        named: Attributes to name.
    """
    shot = f"{_phrase(attributes, 'shot')} of " if "shot" in named else ""
    article = "a " if shot else ""
    return f"{article}{shot}{_subject(attributes, role, named)}"


def set_caption(
    panels: Sequence[Attributes],
    role: str | None,
    *,
    summary: frozenset[str] = IDENTITY | SETTING,
    clauses: frozenset[str] = STAGING,
) -> str:
    """Describes a set in one sentence: prefix, summary, one clause behind each panel's marker.

    Args:
        panels: Contents in reading order; the summary describes the first.
        role: The character's name without brackets.
        summary: Attributes named once for the set.
        clauses: Attributes named for each panel.
    """
    subject = _subject(panels[0], role, summary - STAGING)
    parts = [panel_caption(panel, role, clauses) for panel in panels]
    return f"{PREFIX} a story of {subject}; {_joined(parts)}."


def story_caption(panels: Sequence[Attributes], role: str) -> str:
    """Describes a set by its actions only, without looks, place and light.

    Args:
        panels: Contents in reading order.
        role: The character's name without brackets.
    """
    actions = dict.fromkeys(_phrase(panel, "action") for panel in panels)
    parts = [panel_caption(panel, role, STAGING) for panel in panels]
    return f"{PREFIX} a story of <{role}> {_listed(actions)}; {_joined(parts)}."


def mosaic_caption(panels: Sequence[Attributes], roles: Sequence[str | None]) -> str:
    """Describes unrelated panels, each fully in its own clause."""
    parts = [panel_caption(panel, role) for panel, role in zip(panels, roles, strict=True)]
    return f"{PREFIX} unrelated pictures; {_joined(parts)}."


def attributes_in(caption: str) -> dict[str, str]:
    """Returns the attributes that a clause names, as a mapping from name to value."""
    text = f" {' '.join(words(caption))} "
    return {
        name: value
        for name, phrases in PHRASES.items()
        for value, phrase in phrases.items()
        if f" {phrase} " in text
    }


def words(caption: str) -> list[str]:
    """Splits a caption into words: whole markers, names without brackets, no punctuation."""
    return re.findall(r"\[[A-Z0-9-]+\]|[A-Za-z]+", caption)


def vocabulary() -> tuple[str, ...]:
    """Returns every word that the captions of this module can contain, sorted."""
    phrases = {
        word for group in PHRASES.values() for text in group.values() for word in text.split()
    }
    glue = {"a", "of", "with", "and", "story", "unrelated", "pictures", NOBODY}
    return tuple(sorted(phrases | glue | set(NAMES)))


def _listed(phrases: Iterable[str]) -> str:
    """Joins phrases as in ``one, two and three``."""
    return " and ".join(", ".join(phrases).rsplit(", ", 1))


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(f"[SCENE-{number}] {part}" for number, part in enumerate(parts, 1))


def _phrase(attributes: Attributes, name: str) -> str:
    return PHRASES[name][getattr(attributes, name)]


def _subject(attributes: Attributes, role: str | None, named: frozenset[str]) -> str:
    """Describes the character, its looks, action, place and light, as far as named."""
    who = f"<{role}>" if role else NOBODY
    looks = [_phrase(attributes, name) for name in ("hair", "hat", "shirt") if name in named]
    if looks:
        who += f" with {_listed(looks)}"
    rest = [_phrase(attributes, name) for name in ("action", "place", "light") if name in named]
    return " ".join([who, *rest])
