"""Canvas sizes for training: smaller canvases whose panels still lie on token borders.

A canvas is never cropped, never enlarged, and never squeezed by more than half a token a panel:
each panel is resized on its own to a whole number of tokens. Rejected: scaling and cropping the
canvas as one picture, as every other trainer does, because then seams fall inside tokens and panels
lose their edges to the crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from iclora.errors import BadInput
from schemas.base import Box


class CanvasFit(NamedTuple):
    """A canvas at a size of training."""

    width: int
    height: int
    columns: tuple[tuple[int, int], ...]
    """(edge in the canvas, edge in the smaller one) along x; both from 0 to the width."""

    rows: tuple[tuple[int, int], ...]
    """Likewise along y."""

    def box(self, box: Box) -> Box:
        """Where a box of the canvas lies in the smaller one, in pixels, rounded outwards."""
        x0, y0, x1, y1 = box
        return (
            _moved(x0, self.columns, up=False),
            _moved(y0, self.rows, up=False),
            _moved(x1, self.columns, up=True),
            _moved(y1, self.rows, up=True),
        )


def fit_canvas(
    size: tuple[int, int], panels: Sequence[Box], *, resolution: int, step: int
) -> CanvasFit:
    """The size at which a canvas is trained.

    Args:
        size: width and height in pixels.
        panels: boxes on the canvas.
        resolution: the area aimed at is its square; larger canvases shrink, smaller ones stay.
        step: pixels on a token's side; every panel gets a multiple of it.

    Raises:
        BadInput: a panel would have less than one token.
    """
    width, height = size
    scale = min(1.0, resolution / (width * height) ** 0.5)
    columns = _edges(width, [(box[0], box[2]) for box in panels], scale, step)
    rows = _edges(height, [(box[1], box[3]) for box in panels], scale, step)
    return CanvasFit(columns[-1][1], rows[-1][1], columns, rows)


def _edges(
    length: int, spans: Sequence[tuple[int, int]], scale: float, step: int
) -> tuple[tuple[int, int], ...]:
    marks = sorted({0, length, *(edge for span in spans for edge in span)})
    edges = [(0, 0)]
    for start, end in pairwise(marks):
        tokens = min(round((end - start) * scale / step), (end - start) // step)
        covered = any(low <= start and end <= high for low, high in spans)
        if covered and tokens < 1:
            raise BadInput(f"a panel {end - start} px wide is smaller than a token ({step} px)")
        edges.append((end, edges[-1][1] + tokens * step))
    return tuple(edges)


def _moved(value: int, edges: Sequence[tuple[int, int]], *, up: bool) -> int:
    for (a, x), (b, y) in pairwise(edges):
        if a <= value <= b:
            exact = (value - a) * (y - x)
            return x + (-(-exact // (b - a)) if up else exact // (b - a))
    raise AssertionError(f"{value} is outside the canvas")
