"""What is seen on a panel or in a set, in a small closed vocabulary.

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
"""Who is seen when no role is given: a caption must not invent one."""

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
    """One panel as a clause, such as ``a wide shot of <Ann> waving at night``.

    Args:
        attributes: What is seen.
        role: The character's name without brackets; None names nobody.
        named: The attributes to tell; the others are left open.
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
    """A whole set in one sentence: prefix, summary, one clause behind each panel's marker.

    Args:
        panels: What is seen, in reading order; the summary tells of the first.
        role: The character's name without brackets.
        summary: The attributes told once, of the whole set.
        clauses: The attributes told of each panel.
    """
    told = _subject(panels[0], role, summary - STAGING)
    parts = [panel_caption(panel, role, clauses) for panel in panels]
    return f"{PREFIX} a story of {told}; {_joined(parts)}."


def story_caption(panels: Sequence[Attributes], role: str) -> str:
    """A set of which only is told who does what: looks, place and light are left open.

    Args:
        panels: What is seen, in reading order.
        role: The character's name without brackets.
    """
    deeds = dict.fromkeys(_phrase(panel, "action") for panel in panels)
    parts = [panel_caption(panel, role, STAGING) for panel in panels]
    return f"{PREFIX} a story of <{role}> {_listed(deeds)}; {_joined(parts)}."


def mosaic_caption(panels: Sequence[Attributes], roles: Sequence[str | None]) -> str:
    """Panels that do not belong together, each fully described by its own clause."""
    parts = [panel_caption(panel, role) for panel, role in zip(panels, roles, strict=True)]
    return f"{PREFIX} unrelated pictures; {_joined(parts)}."


def attributes_in(caption: str) -> dict[str, str]:
    """The attributes that a clause names, by name; what it leaves open is absent."""
    text = f" {' '.join(words(caption))} "
    found: dict[str, str] = {}
    for name, phrases in PHRASES.items():
        for value, phrase in phrases.items():
            if f" {phrase} " in text:
                found[name] = value
    return found


def words(caption: str) -> list[str]:
    """A caption's words: markers whole, role names without brackets, no punctuation."""
    return re.findall(r"\[[A-Z0-9-]+\]|[A-Za-z]+", caption)


def vocabulary() -> tuple[str, ...]:
    """Every word that the captions of this module can hold, sorted."""
    said = {word for group in PHRASES.values() for text in group.values() for word in text.split()}
    glue = {"a", "of", "with", "and", "story", "unrelated", "pictures", NOBODY}
    return tuple(sorted(said | glue | set(NAMES)))


def _listed(phrases: Iterable[str]) -> str:
    """``one, two and three``."""
    return " and ".join(", ".join(phrases).rsplit(", ", 1))


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(f"[SCENE-{number}] {part}" for number, part in enumerate(parts, 1))


def _phrase(attributes: Attributes, name: str) -> str:
    return PHRASES[name][getattr(attributes, name)]


def _subject(attributes: Attributes, role: str | None, named: frozenset[str]) -> str:
    """Who it is, what it looks like, what it does, where and when, as far as named."""
    who = f"<{role}>" if role else NOBODY
    looks = [_phrase(attributes, name) for name in ("hair", "hat", "shirt") if name in named]
    if looks:
        who += f" with {_listed(looks)}"
    rest = [_phrase(attributes, name) for name in ("action", "place", "light") if name in named]
    return " ".join([who, *rest])
