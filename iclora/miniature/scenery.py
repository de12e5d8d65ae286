"""The five places, each with large shapes and one dominant color.

Shapes repeat across the width, so that a close shot still shows its place beside the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from iclora.miniature.light import HORIZON, SKIES, blend, on_scenery, paint_sky
from iclora.miniature.pen import Area, Disc, Limb, Pen, Rgb, Stroke, box
from iclora.miniature.world import Light, Place

EDGE = 1400
FLOOR = 1700
"""Horizontal and lower limits of the scenery, beyond the reach of any zoom or pan."""

Ink = Callable[[Rgb], Rgb]


def paint_scenery(pen: Pen, place: Place, light: Light) -> None:
    """Paints the whole background of a picture."""

    def ink(colour: Rgb) -> Rgb:
        return on_scenery(colour, light)

    if place == "room":
        pen.paint(*_room(ink, light))
        return
    paint_sky(pen, light)
    pen.paint(*_OUTDOORS[place](ink, light))


def _peak(x: int, top: int, half: int, height: int, colour: Rgb) -> Area:
    """Returns a triangle on its base, ``half`` wide to each side."""
    return Area(((x - half, top + height), (x, top), (x + half, top + height)), colour)


def _beach(ink: Ink, _light: Light) -> Iterator[Stroke]:
    yield box(-EDGE, HORIZON - 60, EDGE, FLOOR, ink((38, 196, 204)))
    yield box(-EDGE, HORIZON + 40, EDGE, FLOOR, ink((86, 222, 222)))
    for x in range(-EDGE, EDGE, 200):
        yield Limb(((x, 548), (x + 90, 548)), 14, ink((226, 252, 250)))
    yield box(-EDGE, 660, EDGE, FLOOR, ink((250, 226, 150)))
    for x in range(-EDGE, EDGE, 160):
        yield Disc(x, 664, 84, 18, ink((250, 226, 150)))
    for x in (-1120, -480, 430, 1080):
        yield from _palm(x, ink)


def _palm(x: int, ink: Ink) -> Iterator[Stroke]:
    yield Limb(((x, 720), (x + 30, 470), (x + 10, 260)), 46, ink((150, 96, 52)))
    leaf = ink((34, 154, 76))
    for dx, dy in ((-210, 60), (-170, -70), (0, -130), (170, -70), (210, 60)):
        bend, tip = (x + 10 + dx * 3 // 5, 205 + dy * 4 // 5), (x + 10 + dx, 250 + dy)
        yield Area(((x + 10, 210), bend, tip, (x + 10, 280)), leaf)
    yield Disc(x + 10, 262, 34, 34, ink((116, 70, 36)))


def _forest(ink: Ink, _light: Light) -> Iterator[Stroke]:
    yield box(-EDGE, HORIZON - 30, EDGE, FLOOR, ink((40, 120, 58)))
    for x in range(-EDGE, EDGE, 170):
        yield _peak(x, 110, 130, 470, ink((30, 104, 66)))
    yield box(-EDGE, 660, EDGE, FLOOR, ink((112, 188, 70)))
    for x in (-1180, -800, -430, 440, 800, 1180):
        yield box(x - 34, 600, x + 34, 740, ink((112, 70, 40)))
        for top, half in ((60, 130), (200, 170), (350, 210)):
            yield _peak(x, top, half, 290, ink((44, 146, 72)))
    for x in range(-EDGE, EDGE, 310):
        yield Disc(x + 60, 850, 26, 20, ink((226, 60, 60)))
        yield box(x + 50, 852, x + 70, 890, ink((250, 240, 220)))


def _city(ink: Ink, light: Light) -> Iterator[Stroke]:
    walls = ((150, 130, 176), (206, 122, 108), (120, 134, 168), (216, 168, 116))
    tops = (150, 300, 70, 230, 120, 330, 190)
    pane = (255, 226, 110) if light == "night" else ink((222, 240, 250))
    yield box(-EDGE, HORIZON, EDGE, 760, ink((132, 116, 140)))
    for number, x in enumerate(range(-EDGE, EDGE, 190)):
        top = tops[number % len(tops)]
        yield box(x, top, x + 176, 760, ink(walls[number % len(walls)]))
        for row in range(top + 50, 700, 120):
            for column in (x + 28, x + 104):
                yield box(column, row, column + 46, row + 66, pane)
    yield box(-EDGE, 720, EDGE, FLOOR, ink((176, 178, 188)))
    yield box(-EDGE, 800, EDGE, FLOOR, ink((88, 90, 104)))
    for x in range(-EDGE, EDGE, 260):
        yield box(x, 900, x + 140, 926, ink((246, 240, 222)))


def _snow(ink: Ink, _light: Light) -> Iterator[Stroke]:
    white, shade = ink((250, 253, 255)), ink((170, 190, 220))
    for x, top in ((-1050, 190), (-430, 110), (330, 170), (960, 90)):
        yield _peak(x, top, 430, 640 - top, ink((112, 132, 176)))
        cap = ((x - 190, top + 230), (x, top), (x + 190, top + 230), (x + 90, top + 190),
               (x, top + 260), (x - 100, top + 190))  # fmt: skip
        yield Area(cap, white)
    yield box(-EDGE, 620, EDGE, FLOOR, white)
    for x in range(-EDGE, EDGE, 420):
        yield Disc(x, 640, 250, 50, white)
        yield Disc(x + 150, 800, 150, 16, shade)
    for x in (-1190, -560, 520, 1180):
        for top, half in ((330, 80), (420, 110), (520, 140)):
            yield _peak(x, top, half, 170, ink((70, 128, 140)))
            yield _peak(x, top, half // 2, 86, white)


def _room(ink: Ink, light: Light) -> Iterator[Stroke]:
    wall, stripe = ink((244, 190, 196)), ink((232, 160, 176))
    yield box(-EDGE, -900, EDGE, 760, wall)
    for x in range(-EDGE, EDGE, 140):
        yield box(x, -900, x + 60, 760, stripe)
    yield box(-EDGE, 740, EDGE, FLOOR, ink((168, 104, 62)))
    for x in range(-EDGE, EDGE, 230):
        yield box(x, 790, x + 8, FLOOR, ink((132, 78, 46)))
    yield box(-EDGE, 722, EDGE, 756, ink((250, 240, 226)))
    for x in (-1130, -430, 390, 1090):
        yield from _window(x, ink, light)


def _window(x: int, ink: Ink, light: Light) -> Iterator[Stroke]:
    high, low = SKIES[light]
    frame = ink((252, 246, 236))
    yield box(x - 170, 90, x + 170, 520, frame)
    for pane in (0, 1):
        left = x - 140 + pane * 150
        yield box(left, 120, left + 130, 300, blend(high, low, 30))
        yield box(left, 320, left + 130, 490, blend(high, low, 75))
    glow = {"day": (255, 236, 120), "sunset": (255, 206, 90), "night": (252, 240, 190)}[light]
    yield Disc(x - 80, 200, 44, 44, glow)
    yield box(x - 200, 510, x + 200, 550, frame)


_OUTDOORS: dict[Place, Callable[[Ink, Light], Iterator[Stroke]]] = {
    "beach": _beach,
    "forest": _forest,
    "city": _city,
    "snow": _snow,
}
