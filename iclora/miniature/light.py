"""Day, sunset and night: their skies, and their tint of every color."""

from __future__ import annotations

from iclora.miniature.pen import Disc, Pen, Rgb, Stroke, box
from iclora.miniature.world import Light

SKIES: dict[Light, tuple[Rgb, Rgb]] = {
    "day": ((84, 178, 242), (214, 240, 252)),
    "sunset": ((126, 52, 128), (255, 164, 66)),
    "night": ((10, 12, 46), (40, 50, 112)),
}
"""Colors at the top of the sky and at the horizon."""

_CAST: dict[Light, tuple[Rgb, int, int]] = {
    "day": ((255, 255, 255), 0, 0),
    "sunset": ((236, 84, 44), 38, 12),
    "night": ((18, 24, 84), 62, 20),
}
"""Tint of each light, and its percentage on scenery and on the character."""

HORIZON = 560
_BANDS = 20


def blend(base: Rgb, tint: Rgb, percent: int) -> Rgb:
    """Mixes ``percent`` percent of a tint into a color."""
    keep = 100 - percent
    return (
        (base[0] * keep + tint[0] * percent) // 100,
        (base[1] * keep + tint[1] * percent) // 100,
        (base[2] * keep + tint[2] * percent) // 100,
    )


def on_scenery(colour: Rgb, light: Light) -> Rgb:
    """Tints a color of the scenery."""
    tint, percent, _ = _CAST[light]
    return blend(colour, tint, percent)


def on_character(colour: Rgb, light: Light) -> Rgb:
    """Tints a color of the character less than scenery, so that its name stays true at night."""
    tint, _, percent = _CAST[light]
    return blend(colour, tint, percent)


def paint_sky(pen: Pen, light: Light, *, edge: int = 1400, top: int = -900) -> None:
    """Paints bands from the top of the sky to the horizon, then sun, moon, clouds and stars."""
    high, low = SKIES[light]
    pen.paint(box(-edge, top, edge, 0, high))
    step = HORIZON // _BANDS
    for band in range(_BANDS):
        colour = blend(high, low, band * 100 // (_BANDS - 1))
        pen.paint(box(-edge, band * step, edge, HORIZON + 20, colour))
    pen.paint(*_shining(light))


def _shining(light: Light) -> tuple[Stroke, ...]:
    if light == "day":
        cloud = (250, 253, 255)
        clouds = [
            Disc(x + dx, y + dy, rx, ry, cloud)
            for x, y in ((-860, 150), (-150, 80), (420, 130), (1040, 90))
            for dx, dy, rx, ry in ((0, 0, 120, 42), (-40, -34, 56, 46), (38, -28, 46, 36))
        ]
        return (Disc(-400, 150, 100, 100, (255, 226, 84)), *clouds)
    if light == "sunset":
        rings = ((330, (255, 150, 60)), (270, (255, 176, 62)), (210, (255, 214, 92)))
        return tuple(Disc(-330, HORIZON - 70, r, r, colour) for r, colour in rings)
    high = blend(*SKIES["night"], 20)
    stars = tuple(
        Disc(x, y, size, size, (255, 250, 214))
        for x, y, size in (
            (-1050, 120, 14), (-880, 300, 10), (-720, 70, 12), (-560, 250, 14), (-470, 60, 10),
            (-240, 40, 13), (-130, 220, 10), (60, 90, 14), (190, 270, 10), (270, 50, 10),
            (400, 180, 14), (520, 60, 11), (640, 300, 13), (800, 110, 13), (1010, 240, 14),
        )
    )  # fmt: skip
    return (*stars, Disc(-390, 160, 110, 110, (252, 240, 190)), Disc(-345, 135, 92, 92, high))
