"""Pictures of the film world: scenery, then the character, at any size.

Everything important lies in the central square, because panels are cut from there.
"""

from __future__ import annotations

from PIL import Image, ImageDraw

from iclora.miniature.light import on_character
from iclora.miniature.pen import UNIT, Pen
from iclora.miniature.puppet import PAPER, puppet
from iclora.miniature.scenery import paint_scenery
from iclora.miniature.world import Attributes, ShotSize, View

_CAMERA: dict[ShotSize, tuple[int, int, int, int]] = {
    "wide": (1000, 430, 520, 1000),
    "medium": (1250, 700, 500, 500),
    "close": (1600, 1000, 480, 200),
}
"""Zoom of the scenery, scale of the puppet, height of its head (all in thousandths), and how much
of ``View.side`` is left in this shot."""

_ANCHOR = 560
"""Height around which the scenery is zoomed, so that the horizon stays in place."""

_AWAY = {"wave": -80, "read": 0, "balloon": -110, "melon": 0}
"""Horizontal offset of the puppet, which leaves room for the object that it holds."""

PANEL = 64
"""Side of a panel of the miniature in pixels."""


def render_frame(
    attributes: Attributes, view: View, *, width: int = 256, height: int = 192, supersample: int = 2
) -> Image.Image:
    """Draws one picture, RGB, ``width`` x ``height`` pixels.

    Args:
        attributes: Contents of the picture.
        view: Camera and moment.
        width: Width in pixels; at least the height.
        height: Height in pixels.
        supersample: Factor by which the picture is drawn larger and then averaged.

    Returns:
        The picture; the same arguments give the same pixels on every machine.
    """
    picture = Image.new("RGB", (width * supersample, height * supersample))
    canvas = ImageDraw.Draw(picture)
    tall, middle = height * supersample, width * supersample // 2
    zoom, scale, head, sideways = _CAMERA[attributes.shot]
    mirror = -1 if view.mirrored else 1
    drop = _ANCHOR - _ANCHOR * zoom // UNIT
    scenery = Pen(canvas, tall, middle, scale=zoom, mirror=mirror, x=-view.pan, y=drop)
    paint_scenery(scenery, attributes.place, attributes.light)
    bob = (0, 2, 4, 6, 8, 6, 4, 2)[view.beat % 8]
    x = _AWAY[attributes.action] * scale // UNIT + view.side * sideways // UNIT
    actor = Pen(canvas, tall, middle, scale=scale, x=x, y=head + bob)
    strokes, light = puppet(attributes, view.beat), attributes.light
    outline, width = on_character(PAPER, light), max(1, tall * 9 // UNIT)
    for stroke in strokes:
        actor.paint_as(stroke, outline, grow=width)
    for stroke in strokes:
        actor.paint_as(stroke, on_character(stroke.colour, light))
    return picture.reduce(supersample) if supersample > 1 else picture


def render_panel(attributes: Attributes, view: View, side: int = PANEL) -> Image.Image:
    """Draws one square panel of ``side`` pixels that looks like a cropped, smaller frame."""
    return render_frame(attributes, view, width=side, height=side, supersample=3)
