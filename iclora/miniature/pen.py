"""Drawing in whole numbers: the same pixels on every machine.

Lengths are thousandths of the picture's height, x to the right of its middle line, y down from its
top. A transform moves them to pixels by integer division alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import ImageDraw

Rgb = tuple[int, int, int]
Point = tuple[int, int]

UNIT = 1000
"""Length units in the height of a picture."""


@dataclass(frozen=True, slots=True)
class Disc:
    """An ellipse around (x, y) with radii rx and ry."""

    x: int
    y: int
    rx: int
    ry: int
    colour: Rgb


@dataclass(frozen=True, slots=True)
class Area:
    """A filled polygon."""

    points: tuple[Point, ...]
    colour: Rgb


@dataclass(frozen=True, slots=True)
class Limb:
    """A thick line with round ends and joints."""

    points: tuple[Point, ...]
    thickness: int
    colour: Rgb


Stroke = Disc | Area | Limb


def box(x0: int, y0: int, x1: int, y1: int, colour: Rgb) -> Area:
    """A rectangle from its corners."""
    return Area(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), colour)


@dataclass(frozen=True, slots=True)
class Pen:
    """Paints strokes onto a canvas through a transform: scale, then shift, then pixels."""

    canvas: ImageDraw.ImageDraw
    height: int
    """The picture's height in pixels of the canvas."""

    middle: int
    """The pixel column of x = 0."""

    scale: int = UNIT
    """Thousandths."""

    mirror: int = 1
    """-1 turns left to right."""

    x: int = 0
    y: int = 0
    """Where the strokes' origin lies, in length units."""

    top: int = 0
    """The pixel row of y = 0."""

    def at(self, point: Point) -> Point:
        """A point in pixels."""
        x = self.x * UNIT + self.mirror * point[0] * self.scale
        y = self.y * UNIT + point[1] * self.scale
        whole = UNIT * UNIT
        return self.middle + x * self.height // whole, self.top + y * self.height // whole

    def length(self, units: int) -> int:
        """A length in pixels, at least 1."""
        return max(1, units * self.scale * self.height // (UNIT * UNIT))

    def paint(self, *strokes: Stroke) -> None:
        """Paints strokes one over the other."""
        for stroke in strokes:
            self._paint(stroke, 0, stroke.colour)

    def paint_as(self, stroke: Stroke, colour: Rgb) -> None:
        """Paints one stroke in another colour than its own."""
        self._paint(stroke, 0, colour)

    def outline(self, strokes: tuple[Stroke, ...], width: int, colour: Rgb) -> None:
        """Paints the strokes' silhouette, grown by ``width`` pixels, in one colour."""
        for stroke in strokes:
            self._paint(stroke, width, colour)

    def _paint(self, stroke: Stroke, grow: int, colour: Rgb) -> None:
        match stroke:
            case Disc():
                rx, ry = self.length(stroke.rx) + grow, self.length(stroke.ry) + grow
                self._disc(self.at((stroke.x, stroke.y)), rx, ry, colour)
            case Area():
                points = [self.at(point) for point in stroke.points]
                self.canvas.polygon(points, fill=colour)
                if grow:
                    self._line([*points, points[0]], grow, colour)
            case Limb():
                half = self.length(stroke.thickness) // 2 + grow
                self._line([self.at(point) for point in stroke.points], half, colour)

    def _line(self, points: list[Point], half: int, colour: Rgb) -> None:
        self.canvas.line(points, fill=colour, width=2 * half + 1)
        for point in points:
            self._disc(point, half, half, colour)

    def _disc(self, at: Point, rx: int, ry: int, colour: Rgb) -> None:
        x, y = at
        self.canvas.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)
