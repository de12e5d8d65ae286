"""Integer drawing with equal pixels on every machine.

Lengths are thousandths of the picture's height; x points right from its middle line, y points down
from its top. A transform converts them to pixels by integer division alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import ImageDraw

Rgb = tuple[int, int, int]
Point = tuple[int, int]

UNIT = 1000
"""Height of a picture in length units."""


@dataclass(frozen=True, slots=True)
class Disc:
    """Ellipse around (x, y) with radii rx and ry."""

    x: int
    y: int
    rx: int
    ry: int
    colour: Rgb


@dataclass(frozen=True, slots=True)
class Area:
    """Filled polygon."""

    points: tuple[Point, ...]
    colour: Rgb


@dataclass(frozen=True, slots=True)
class Limb:
    """Thick line with round ends and joints."""

    points: tuple[Point, ...]
    thickness: int
    colour: Rgb


Stroke = Disc | Area | Limb


def box(x0: int, y0: int, x1: int, y1: int, colour: Rgb) -> Area:
    """Returns a rectangle with the given corners."""
    return Area(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), colour)


@dataclass(frozen=True, slots=True)
class Pen:
    """Painter of strokes onto a canvas through a transform: scale, shift, conversion to pixels."""

    canvas: ImageDraw.ImageDraw
    height: int
    """Height of the picture in pixels of the canvas."""

    middle: int
    """Pixel column of x = 0."""

    scale: int = UNIT
    """Scale in thousandths."""

    mirror: int = 1
    """-1 swaps left and right."""

    x: int = 0
    y: int = 0
    """Position of the strokes' origin in length units."""

    def at(self, point: Point) -> Point:
        """Converts a point to pixels."""
        x = self.x * UNIT + self.mirror * point[0] * self.scale
        y = self.y * UNIT + point[1] * self.scale
        return self.middle + x * self.height // UNIT**2, y * self.height // UNIT**2

    def length(self, units: int) -> int:
        """Converts a length to pixels, at least 1."""
        return max(1, units * self.scale * self.height // UNIT**2)

    def paint(self, *strokes: Stroke) -> None:
        """Paints strokes one over the other."""
        for stroke in strokes:
            self.paint_as(stroke, stroke.colour)

    def paint_as(self, stroke: Stroke, colour: Rgb, grow: int = 0) -> None:
        """Paints one stroke in the given color, grown by ``grow`` pixels on each side."""
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
