"""Film scripts as a pure function of a seed.

A film has a title card, four to seven scenes of four to six shots, and end credits, with the
unusable frames of real footage between them. A scene keeps its character, place and light; its
shots differ in size and action. Places change from one scene to the next, so that neighboring
scenes never look alike.
"""

from __future__ import annotations

import random
from typing import Final, Literal

from iclora.miniature.world import (
    ACTIONS,
    HAIRS,
    HATS,
    LIGHTS,
    PLACES,
    SHIRTS,
    SHOT_SIZES,
    Action,
    Attributes,
    Hair,
    Hat,
    Light,
    Place,
    Shirt,
    ShotSize,
    View,
    chance,
    seeded,
)
from schemas.base import Box, Schema

FPS: Final = 12
WIDTH: Final = 256
HEIGHT: Final = 192
BAR: Final = 24
"""Height of each letterbox bar in pixels; a film with bars has a picture of 256 x 144."""

NAMES: Final = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Ida", "Kim", "Leo")
_FIRST = ("LITTLE", "LAST", "LOST", "GREAT", "SECRET", "QUIET")
_SECOND = ("PICNIC", "BALLOON", "HOLIDAY", "MELON", "STORY", "WINTER", "PARADE")

ShotKind = Literal["title", "scene", "blurred", "duplicate", "black", "credits"]
"""``blurred`` and ``duplicate`` belong to a scene; black, title and credits to none."""


class Character(Schema):
    """Member of a film's cast."""

    name: str
    hair: Hair
    hat: Hat
    shirt: Shirt


class Scene(Schema):
    """Character, place and light, which all shots of a scene share."""

    who: Character
    place: Place
    light: Light


class Shot(Schema):
    """Frames between two cuts."""

    kind: ShotKind
    start: int
    """Index of the first frame."""

    frames: int
    scene: int = -1
    """Index of the scene; -1 for cards and black."""

    attributes: Attributes | None = None
    view: View = View()
    copy_of: int = -1
    """Index of the shot that this one nearly repeats; -1 for none."""

    fade_in: int = 0
    fade_out: int = 0
    """Number of frames of the fade from or to black."""

    drift: int = 0
    """Movement of the scenery per frame, in thousandths of the picture's height."""

    soft: int = 0
    """Number of frames at the start that are out of focus."""

    @property
    def end(self) -> int:
        """Index after the last frame."""
        return self.start + self.frames


class FilmScript(Schema):
    """Complete description of a film."""

    seed: int
    title: str
    cast: tuple[Character, ...]
    scenes: tuple[Scene, ...]
    shots: tuple[Shot, ...]
    bar: int = 0
    """Height of the black bars above and below in pixels."""

    logo: Box | None = None
    """Box of a broadcaster's logo in pixels."""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.shots[-1].end


def film_script(seed: int) -> FilmScript:
    """Writes the script of a seed; equal seeds give equal films."""
    rng = seeded("film", seed)
    cast = _cast(rng)
    scenes = _scenes(rng, cast)
    shots: list[Shot] = [Shot(kind="title", start=0, frames=18, fade_in=4)]
    rubbish = set(rng.sample(range(len(scenes)), 3))
    for number, scene in enumerate(scenes):
        wrecked = number in rubbish
        for shot in _scene_shots(rng, number, scene, first=len(shots), wrecked=wrecked):
            shots.append(shot.model_copy(update={"start": shots[-1].end}))
        if wrecked and chance(rng, 50):
            shots.append(Shot(kind="black", start=shots[-1].end, frames=rng.randrange(6, 11)))
    shots.append(Shot(kind="credits", start=shots[-1].end, frames=24, fade_out=6))
    bar = BAR if chance(rng, 35) else 0
    return FilmScript(
        seed=seed,
        title=f"THE {rng.choice(_FIRST)} {rng.choice(_SECOND)}",
        cast=cast,
        scenes=scenes,
        shots=tuple(shots),
        bar=bar,
        logo=(206, bar + 8, 246, bar + 24) if chance(rng, 35) else None,
    )


def _cast(rng: random.Random) -> tuple[Character, ...]:
    """Draws three characters, no two with the same hair, hat or shirt."""
    looks = zip(
        rng.sample(NAMES, 3),
        rng.sample(HAIRS, 3),
        rng.sample(HATS, 3),
        rng.sample(SHIRTS, 3),
        strict=True,
    )
    return tuple(Character(name=n, hair=h, hat=t, shirt=s) for n, h, t, s in looks)


def _scenes(rng: random.Random, cast: tuple[Character, ...]) -> tuple[Scene, ...]:
    lights = {place: rng.sample(LIGHTS, len(LIGHTS)) for place in PLACES}
    # Every place appears at most twice; no place follows itself.
    once, again = rng.sample(PLACES, len(PLACES)), rng.sample(PLACES, len(PLACES))
    places: tuple[Place, ...] = (*once, *(place for place in again if place != once[-1]))
    return tuple(
        Scene(who=rng.choice(cast), place=place, light=lights[place].pop())
        for place in places[: rng.randrange(4, 8)]
    )


def _scene_shots(
    rng: random.Random, number: int, scene: Scene, *, first: int, wrecked: bool
) -> list[Shot]:
    """Returns the shots of one scene with starts of 0; ``first`` is the index of the first."""
    view = View(mirrored=chance(rng, 50), pan=rng.randrange(-140, 141))
    shots: list[Shot] = []
    for size, action in _stagings(rng, rng.randrange(4, 7)):
        attributes = Attributes(
            hair=scene.who.hair,
            hat=scene.who.hat,
            shirt=scene.who.shirt,
            place=scene.place,
            light=scene.light,
            shot=size,
            action=action,
        )
        shots.append(
            Shot(
                kind="scene",
                start=0,
                frames=rng.randrange(10, 20),
                scene=number,
                attributes=attributes,
                view=view.model_copy(
                    update={
                        "pan": view.pan + rng.randrange(-60, 61),
                        "side": rng.randrange(-100, 101),
                        "beat": rng.randrange(48),
                    }
                ),
                drift=rng.randrange(-4, 5),
                soft=rng.choice((0, 0, 2, 4)),
            )
        )
    if wrecked:
        shots = _wreck(rng, shots, first)
    if chance(rng, 40):
        shots[0] = shots[0].model_copy(update={"fade_in": 4})
    if chance(rng, 40):
        shots[-1] = shots[-1].model_copy(update={"fade_out": 4})
    return shots


def _stagings(rng: random.Random, count: int) -> list[tuple[ShotSize, Action]]:
    """Draws different pairs of shot size and action; neighbors differ in both."""
    chosen: list[tuple[ShotSize, Action]] = []
    while len(chosen) < count:
        pair = (rng.choice(SHOT_SIZES), rng.choice(ACTIONS))
        before = chosen[-1] if chosen else None
        if pair not in chosen and (not before or (before[0] != pair[0] and before[1] != pair[1])):
            chosen.append(pair)
    return chosen


def _wreck(rng: random.Random, shots: list[Shot], first: int) -> list[Shot]:
    """Blurs the last shot but one, and nearly repeats the first shot between two visible cuts."""
    shots[-2] = shots[-2].model_copy(update={"kind": "blurred", "soft": 0})
    original = shots[0]
    view = original.view.model_copy(update={"pan": original.view.pan + rng.choice((-6, 6))})
    copy = original.model_copy(update={"kind": "duplicate", "copy_of": first, "view": view})
    for index in range(2, len(shots) + 1):
        if all(_differ(copy, shot) for shot in shots[index - 1 : index + 1]):
            return [*shots[:index], copy, *shots[index:]]
    return shots


def _differ(first: Shot, second: Shot) -> bool:
    """Returns true if a cut between two shots of a scene changes both size and action."""
    a, b = first.attributes, second.attributes
    return a is not None and b is not None and a.shot != b.shot and a.action != b.action
