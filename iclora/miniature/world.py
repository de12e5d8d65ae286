"""Attributes of the film world: few, each large on a 64-pixel panel.

Colors of hair and shirt are disjoint words, so a word names one thing; every scene has one
character. Rejected: a second character in a frame, skin, mood and hair shape, because they are not
readable at 64 pixels and would only add noise to every metric.
"""

from __future__ import annotations

import random
from typing import Final, Literal, get_args

from schemas.base import Schema

Hair = Literal["blond", "ginger", "pink", "blue"]
Hat = Literal["none", "cap", "tall"]
Shirt = Literal["red", "green", "white", "purple"]
Place = Literal["beach", "forest", "city", "snow", "room"]
Light = Literal["day", "sunset", "night"]
ShotSize = Literal["wide", "medium", "close"]
Action = Literal["wave", "read", "balloon", "melon"]

HAIRS: Final[tuple[Hair, ...]] = get_args(Hair)
HATS: Final[tuple[Hat, ...]] = get_args(Hat)
SHIRTS: Final[tuple[Shirt, ...]] = get_args(Shirt)
PLACES: Final[tuple[Place, ...]] = get_args(Place)
LIGHTS: Final[tuple[Light, ...]] = get_args(Light)
SHOT_SIZES: Final[tuple[ShotSize, ...]] = get_args(ShotSize)
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

VALUES: Final[dict[str, tuple[str, ...]]] = {
    "hair": HAIRS,
    "hat": HATS,
    "shirt": SHIRTS,
    "place": PLACES,
    "light": LIGHTS,
    "shot": SHOT_SIZES,
    "action": ACTIONS,
}
"""Attributes and their values, in the order of the reader's heads and of all reports."""

IDENTITY: Final = frozenset({"hair", "hat", "shirt"})
SETTING: Final = frozenset({"place", "light"})
STAGING: Final = frozenset({"shot", "action"})
"""Attributes that differ between the shots of a scene; identity and setting do not."""


class Attributes(Schema):
    """Contents of one panel."""

    hair: Hair
    hat: Hat
    shirt: Shirt
    place: Place
    light: Light
    shot: ShotSize
    action: Action

    def indices(self) -> tuple[int, ...]:
        """Returns each attribute's index into its ``VALUES``, in their order."""
        return tuple(values.index(getattr(self, name)) for name, values in VALUES.items())

    def same_scene(self, other: Attributes) -> bool:
        """Returns true if character, place and light are the same."""
        return all(getattr(self, name) == getattr(other, name) for name in IDENTITY | SETTING)


class View(Schema):
    """Camera and moment, which no caption names.

    Lengths are thousandths of the picture's height.
    """

    mirrored: bool = False
    """True if the scenery is flipped horizontally."""

    pan: int = 0
    """Shift of the scenery to the left, -250 to 250."""

    side: int = 0
    """Shift of the character to the right, -100 to 100 in a wide shot."""

    beat: int = 0
    """Time in frames, which moves arms and eyelids slightly."""


def seeded(purpose: str, seed: int) -> random.Random:
    """Returns a random generator for one purpose; the same on every machine."""
    return random.Random(f"{purpose} {seed}")  # noqa: S311 - a film, not a secret


def chance(rng: random.Random, percent: int) -> bool:
    """Returns true with a probability of ``percent`` percent."""
    return rng.randrange(100) < percent


def random_attributes(rng: random.Random) -> Attributes:
    """Draws attributes independently and uniformly."""
    return Attributes(
        hair=rng.choice(HAIRS),
        hat=rng.choice(HATS),
        shirt=rng.choice(SHIRTS),
        place=rng.choice(PLACES),
        light=rng.choice(LIGHTS),
        shot=rng.choice(SHOT_SIZES),
        action=rng.choice(ACTIONS),
    )


def random_view(rng: random.Random) -> View:
    """Draws a view from the range of the films' shots."""
    return View(
        mirrored=chance(rng, 50),
        pan=rng.randrange(-200, 201),
        side=rng.randrange(-100, 101),
        beat=rng.randrange(48),
    )
