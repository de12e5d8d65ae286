"""What can be in a picture of the film world: few attributes, each large on a 64-pixel panel.

Decided: colours of hair and shirt are disjoint words, so a word names one thing; every scene has
one character. Rejected: a second character in a frame, skin, mood and hair shape - a feasibility
study could not read them at 64 pixels, and what cannot be read only adds noise to every metric.
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
"""Every attribute and its values, in the order the reader's heads and all reports use."""

IDENTITY: Final = frozenset({"hair", "hat", "shirt"})
SETTING: Final = frozenset({"place", "light"})
STAGING: Final = frozenset({"shot", "action"})
"""What differs between the shots of a scene; identity and setting do not."""


class Attributes(Schema):
    """Everything that can be told of one panel."""

    hair: Hair
    hat: Hat
    shirt: Shirt
    place: Place
    light: Light
    shot: ShotSize
    action: Action

    def indices(self) -> tuple[int, ...]:
        """Each attribute's value as its place in ``VALUES``, in that order."""
        return tuple(values.index(getattr(self, name)) for name, values in VALUES.items())

    def same_scene(self, other: Attributes) -> bool:
        """Whether character, place and light are the same."""
        return all(getattr(self, name) == getattr(other, name) for name in IDENTITY | SETTING)


class View(Schema):
    """How the camera sees the attributes: what no caption names.

    Lengths are thousandths of the picture's height.
    """

    mirrored: bool = False
    """The scenery is turned left to right."""

    pan: int = 0
    """How far the scenery is moved to the left, -250 to 250."""

    side: int = 0
    """How far the character stands to the right of its usual place, -100 to 100 in a wide shot."""

    beat: int = 0
    """The time in frames: moves arms and eyelids a little."""


def seeded(purpose: str, seed: int) -> random.Random:
    """A random source for one purpose; Mersenne Twister, the same on every machine."""
    return random.Random(f"{purpose} {seed}")  # noqa: S311 - a film, not a secret


def chance(rng: random.Random, percent: int) -> bool:
    """True in ``percent`` of a hundred cases."""
    return rng.randrange(100) < percent


def random_attributes(rng: random.Random) -> Attributes:
    """Attributes drawn independently and evenly."""
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
    """A view as the shots of the films have them."""
    return View(
        mirrored=chance(rng, 50),
        pan=rng.randrange(-200, 201),
        side=rng.randrange(-100, 101),
        beat=rng.randrange(48),
    )
