"""Pixel-exact seam detection in stitched canvases.

Published canvases are not divided into equal parts, so seams are detected as lines across the whole
canvas where adjacent rows differ more than in their neighborhood. A horizon changes only in color;
at a seam every column changes by its own amount.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film_decoder import Pixels
from iclora.ingest.result import UnreadableInput
from schemas.base import Box

_CLIP = 48.0
"""Upper limit of a step in gray levels, so that one bright edge does not dominate a line."""

_BLOCKS = 16
"""Number of blocks per line; a seam must be visible in most of them."""

_CONTRAST = 2.0
"""Minimum ratio of a seam step to the typical step nearby."""

_NEAR = 12
"""Number of rows on each side that define the neighborhood of a line."""

_SHORTEST, _LONGEST = 0.5, 1.6
"""Minimum and maximum panel size, as a fraction of an equal part."""

_MANY = 24
"""Maximum number of candidate lines combined into seams."""

_EDGE = 0.25
"""Minimum contrast of the far edge of a gutter, as a fraction of the near edge."""

_MIXED = 0.4
"""Minimum ratio of an adjacent step to the seam step for the row between them to be a blend."""

_FLAT_SHARE, _FLAT_STEP = 0.9, 12.0
"""Minimum fraction of a gutter line within the given gray levels of its median; tolerates
ringing."""


def panel_boxes(grey: Pixels, rows: int, columns: int) -> tuple[Box, ...]:
    """Finds the panels of a canvas in reading order, without gutters.

    Args:
        grey: Luma, of shape (height, width).
        rows: Number of panel rows.
        columns: Number of panel columns.

    Raises:
        UnreadableInput: An expected seam is missing.
    """
    across = _spans(grey, rows)
    down = _spans(np.ascontiguousarray(grey.T), columns)
    return tuple((x0, y0, x1, y1) for y0, y1 in across for x0, x1 in down)


def _spans(grey: Pixels, parts: int) -> list[tuple[int, int]]:
    """Returns the first and end row (exclusive) per part."""
    length = grey.shape[0]
    if parts == 1:
        return [(0, length)]
    values = grey.astype(np.float32)
    steps = line_steps(values)
    contrast = _contrast(steps)
    seams = _best_seams(contrast, parts, length)
    gaps = [_gutter(values, contrast, seam) for seam in seams]
    starts = [0, *(after for _, after in gaps)]
    ends = [*(before for before, _ in gaps), length]
    return list(zip(starts, ends, strict=True))


def line_steps(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Computes the step from row y - 1 to row y along most of the line; 0 for the first row.

    Uses the lower quartile of the mean steps per block, plus a quarter of their mean, so an edge
    that spans half the picture contributes little.
    """
    steps = np.minimum(np.abs(np.diff(values, axis=0)), _CLIP)
    blocks = np.stack([block.mean(axis=1) for block in np.array_split(steps, _BLOCKS, axis=1)])
    lower = np.percentile(blocks, 25, axis=0)
    return np.concatenate([[0.0], lower + 0.25 * blocks.mean(axis=0)]).astype(np.float32)


def _contrast(steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divides each step by the typical step nearby plus one gray level."""
    padded = np.pad(steps, _NEAR, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEAR + 1)
    usual = np.percentile(windows, 70, axis=1)
    return (steps / (usual + 1.0)).astype(np.float32)


def _best_seams(contrast: NDArray[np.float32], parts: int, length: int) -> tuple[int, ...]:
    peaks = [
        y
        for y in np.argsort(-contrast)[: _MANY * 4]
        if contrast[y] >= _CONTRAST and contrast[y] == contrast[max(0, y - 3) : y + 4].max()
    ][:_MANY]
    best: tuple[float, tuple[int, ...]] = (0.0, ())
    for chosen in itertools.combinations(sorted(int(y) for y in peaks), parts - 1):
        sizes = np.diff([0, *chosen, length]) * parts / length
        if sizes.min() < _SHORTEST or sizes.max() > _LONGEST:
            continue
        evenness = float(np.exp(-np.square(sizes - 1).mean() / 0.1))
        score = float(np.log(contrast[list(chosen)]).sum()) * evenness
        if score > best[0]:
            best = (score, chosen)
    if not best[1]:
        raise UnreadableInput(
            "seams_not_found", f"no {parts} panels can be told apart", float(len(peaks)), parts - 1
        )
    return best[1]


def _gutter(
    values: NDArray[np.float32], contrast: NDArray[np.float32], seam: int
) -> tuple[int, int]:
    """Returns the end of the part before a seam and the start of the part after it.

    The two differ if the seam is one edge of a single-color gutter, or if scaling has blended the
    two parts in the row at the seam.
    """
    strays = np.abs(values - np.median(values, axis=1, keepdims=True))
    flat = (strays <= _FLAT_STEP).mean(axis=1) >= _FLAT_SHARE
    limit = len(flat) // 10
    first, end = seam, seam
    while end < len(flat) - 1 and flat[end]:
        end += 1
    while first > 1 and flat[first - 1]:
        first -= 1
    edge = max(_CONTRAST, _EDGE * float(contrast[seam]))
    if 0 < seam - first <= limit and contrast[first] >= edge:
        return first, seam
    if 0 < end - seam <= limit and contrast[end] >= edge:
        return seam, end
    mixed = _MIXED * contrast[seam]
    return seam - int(contrast[seam - 1] >= mixed), seam + int(contrast[seam + 1] >= mixed)
