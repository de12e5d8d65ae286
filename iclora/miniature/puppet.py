"""The character: a paper puppet with a large head and an outline that stands out in any place.

Its origin is the center of the head; a tall hat to the shoes are about 1600 units.
"""

from __future__ import annotations

from collections.abc import Iterator

from iclora.miniature.pen import Area, Disc, Limb, Rgb, Stroke, box
from iclora.miniature.world import Attributes, Hair, Hat, Shirt

HAIR_COLOURS: dict[Hair, Rgb] = {
    "blond": (252, 214, 76),
    "ginger": (222, 96, 28),
    "pink": (248, 122, 190),
    "blue": (52, 100, 226),
}
SHIRT_COLOURS: dict[Shirt, Rgb] = {
    "red": (224, 40, 52),
    "green": (34, 160, 72),
    "white": (246, 246, 246),
    "purple": (128, 52, 176),
}
SKIN: Rgb = (252, 212, 178)
INK: Rgb = (52, 36, 48)
PAPER: Rgb = (255, 250, 238)
"""Color of the outline."""

_TROUSERS: Rgb = (70, 76, 110)
_BLINK_EVERY, _BLINK_FRAMES = 31, 2


def puppet(who: Attributes, beat: int) -> tuple[Stroke, ...]:
    """Returns the character's strokes from back to front at one moment of its action."""
    hair = HAIR_COLOURS[who.hair]
    swing = abs(beat % 8 - 4) - 2
    return (
        *_behind(who, swing),
        *_back_hair(hair),
        *_body(SHIRT_COLOURS[who.shirt]),
        *_face(hair, blinking=beat % _BLINK_EVERY < _BLINK_FRAMES),
        *_hat(who.hat),
        *_act(who, swing),
    )


def _back_hair(hair: Rgb) -> Iterator[Stroke]:
    yield Disc(0, -20, 350, 330, hair)
    for side in (-1, 1):
        yield Limb(((side * 272, 20), (side * 286, 300)), 150, hair)


def _body(shirt: Rgb) -> Iterator[Stroke]:
    for side in (-1, 1):
        yield Limb(((side * 92, 640), (side * 92, 830)), 120, _TROUSERS)
        yield Disc(side * 110, 880, 92, 46, INK)
    yield Area(((-170, 240), (170, 240), (250, 690), (-250, 690)), shirt)
    yield Area(((-70, 236), (70, 236), (0, 320)), SKIN)


def _face(hair: Rgb, *, blinking: bool) -> Iterator[Stroke]:
    yield Disc(0, 30, 268, 248, SKIN)
    yield Area(((-290, 10), (-250, -190), (-110, -290), (110, -290), (250, -190), (290, 10),
                (170, -70), (90, -120), (20, -50), (-90, -110), (-170, -60)), hair)  # fmt: skip
    for side in (-1, 1):
        yield Disc(side * 176, 128, 50, 30, (250, 160, 150))
        if blinking:
            yield Limb(((side * 108 - 34, 66), (side * 108 + 34, 66)), 18, INK)
        else:
            yield Disc(side * 108, 56, 40, 56, INK)
            yield Disc(side * 108 + 12, 36, 14, 18, PAPER)
    yield Limb(((-50, 152), (-24, 176), (24, 176), (50, 152)), 20, (160, 50, 60))


def _hat(hat: Hat) -> Iterator[Stroke]:
    if hat == "cap":
        dome = ((-330, -150), (-316, -260), (-240, -360), (-110, -420), (110, -420),
                (240, -360), (316, -260), (330, -150))  # fmt: skip
        yield Area(dome, (20, 176, 176))
        yield Area(((-120, -190), (200, -200), (500, -150), (510, -96), (200, -130), (-120, -130)),
                   (10, 128, 138))  # fmt: skip
        yield Disc(0, -420, 40, 26, (255, 236, 150))
    elif hat == "tall":
        yield box(-216, -720, 216, -220, (66, 44, 84))
        yield box(-216, -370, 216, -280, (250, 190, 50))
        yield Area(((-400, -250), (400, -250), (360, -180), (-360, -180)), (66, 44, 84))


def _sleeve(side: int, hand: tuple[int, int], shirt: Rgb) -> Iterator[Stroke]:
    """Draws an arm bent outwards, so that a book or a melon never hides all of the shirt."""
    yield Limb(((side * 170, 330), (side * 350, 470), hand), 140, shirt)


def _arm(side: int, hand: tuple[int, int], shirt: Rgb) -> Iterator[Stroke]:
    yield Limb(((side * 185, 330), hand), 120, shirt)
    yield Disc(*hand, 72, 72, SKIN)


def _behind(who: Attributes, swing: int) -> Iterator[Stroke]:
    """Draws the balloon and its string, which the head hides in part."""
    if who.action == "balloon":
        x, y = (440, 20) if who.shot == "close" else (440, -330)
        yield Limb(((x + 8 * swing, y), (400, 430)), 16, INK)
        yield Disc(x + 8 * swing, y - 60, 180, 210, (250, 70, 46))
        yield Disc(x - 60 + 8 * swing, y - 130, 36, 50, (255, 200, 180))


def _act(who: Attributes, swing: int) -> Iterator[Stroke]:
    shirt = SHIRT_COLOURS[who.shirt]
    match who.action:
        case "wave":
            yield from _arm(-1, (-330, 560), shirt)
            yield from _waving_hand(410 + 26 * swing, -20, shirt)
        case "read":
            yield from _book(250 if who.shot == "close" else 400, shirt)
        case "balloon":
            yield from _arm(-1, (-330, 560), shirt)
            yield from _arm(1, (390, 430), shirt)
        case "melon":
            yield from _melon(190 + 4 * swing, shirt)


def _waving_hand(x: int, y: int, shirt: Rgb) -> Iterator[Stroke]:
    yield Limb(((185, 330), (400, 200), (x, y)), 120, shirt)
    for dx, dy in ((-80, -90), (-28, -130), (34, -126), (86, -80)):
        yield Limb(((x, y - 20), (x + dx, y + dy)), 52, SKIN)
    yield Disc(x, y - 20, 84, 84, SKIN)


def _book(y: int, shirt: Rgb) -> Iterator[Stroke]:
    for side in (-1, 1):
        yield from _sleeve(side, (side * 250, y + 150), shirt)
        yield Area(((0, y + 30), (side * 262, y - 30), (side * 262, y + 180), (0, y + 240)),
                   (30, 60, 110))  # fmt: skip
        yield Area(((0, y + 20), (side * 232, y - 46), (side * 232, y + 140), (0, y + 206)),
                   (255, 252, 236))  # fmt: skip
        for row in (40, 90, 140):
            yield Limb(((side * 40, y + row + 18), (side * 190, y + row - 22)), 14, (150, 150, 160))
        yield Disc(side * 250, y + 110, 58, 58, SKIN)


def _melon(y: int, shirt: Rgb) -> Iterator[Stroke]:
    for side in (-1, 1):
        yield from _sleeve(side, (side * 270, y + 60), shirt)
    for radius, colour in ((270, (24, 120, 50)), (236, (220, 244, 190)), (212, (238, 56, 72))):
        yield Area(_half_disc(y - 40, radius), colour)
    for x, dy in ((-120, 16), (-50, 50), (50, 50), (120, 16), (0, 104)):
        yield Disc(x, y - 10 + dy, 14, 22, INK)
    for side in (-1, 1):
        yield Disc(side * 264, y + 40, 58, 58, SKIN)


def _half_disc(y: int, radius: int) -> tuple[tuple[int, int], ...]:
    """Returns the lower half of a circle, from integer sines."""
    rim = ((1000, 0), (966, 259), (866, 500), (707, 707), (500, 866), (259, 966), (0, 1000))
    right = [(radius * dx // 1000, y + radius * dy // 1000) for dx, dy in rim]
    left = [(-x, dy) for x, dy in reversed(right[:-1])]
    return (*right, *left)
