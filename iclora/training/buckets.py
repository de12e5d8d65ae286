"""Canvas sizes for training, with panel edges aligned to token boundaries.

A canvas is never cropped or enlarged. Each panel is resized separately to a whole number of tokens,
which distorts it by no more than half a token. Scaling and cropping the whole canvas, as other
trainers do, would put seams inside tokens and crop the edges of panels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from iclora.errors import BadInput
from schemas.base import Box


class CanvasFit(NamedTuple):
    """Canvas size for training, with the mapping from the original."""

    width: int
    height: int
    columns: tuple[tuple[int, int], ...]
    """Pairs (edge in the original, edge in the resized canvas) along x, from 0 to the width."""

    rows: tuple[tuple[int, int], ...]
    """Pairs (edge in the original, edge in the resized canvas) along y, from 0 to the height."""

    def box(self, box: Box) -> Box:
        """Maps a box from the original to the resized canvas, in pixels, rounding outward."""
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
    """Computes the training size of a canvas.

    Args:
        size: width and height of the canvas, in pixels.
        panels: panel boxes on the canvas.
        resolution: square root of the target area, in pixels. Larger canvases shrink; smaller ones
            keep their size.
        step: side length of a token, in pixels. Panel sides become multiples of it.

    Raises:
        BadInput: a panel is smaller than one token.
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
