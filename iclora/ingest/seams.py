"""The seams of a stitched canvas, to the pixel.

Published canvases are not cut in equal parts, so the seam is looked for: the line across the whole
canvas where neighbouring rows differ more than rows do round about. A horizon differs too, but
only its colour changes there; at a seam every column changes by its own amount.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from iclora.ingest.film import Pixels
from iclora.ingest.result import UnreadableInput
from schemas.base import Box

_CLIP = 48.0
"""Steps larger than this count alike, so that one bright edge does not outweigh a whole line."""

_BLOCKS = 16
"""A seam must show in most of this many parts of its length."""

_CONTRAST = 2.0
"""A seam's step is at least this many times the usual step round about."""

_NEAR = 12
"""Rows on each side that are "round about"."""

_SHORTEST, _LONGEST = 0.5, 1.6
"""Of an equal part: the sizes a panel may have."""

_MANY = 24
"""Lines that are looked at in combination."""

_EDGE = 0.25
"""The far side of a gutter is an edge of at least this share of the near one."""

_MIXED = 0.4
"""A step beside the seam of this share of it: the row between the two is a mixture."""

_FLAT_SHARE, _FLAT_STEP = 0.9, 12.0
"""Share of a gutter's line that is within so many grey levels of its median; ringing is not."""


def panel_boxes(grey: Pixels, rows: int, columns: int) -> tuple[Box, ...]:
    """The panels of a canvas in reading order, without gutters.

    Args:
        grey: luma, height x width.
        rows: of panels.
        columns: of panels.

    Raises:
        Unreadable: there is no seam where one must be.
    """
    across = _spans(grey, rows)
    down = _spans(np.ascontiguousarray(grey.T), columns)
    return tuple((x0, y0, x1, y1) for y0, y1 in across for x0, x1 in down)


def _spans(grey: Pixels, parts: int) -> list[tuple[int, int]]:
    """First and end row of each part."""
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
    """How much row y differs from row y - 1 along most of the line; 0 for the first.

    The line is cut in blocks and the lower quartile of their mean steps is taken: an edge that
    spans half the picture counts little.
    """
    steps = np.minimum(np.abs(np.diff(values, axis=0)), _CLIP)
    blocks = np.stack([block.mean(axis=1) for block in np.array_split(steps, _BLOCKS, axis=1)])
    lower = np.percentile(blocks, 25, axis=0)
    return np.concatenate([[0.0], lower + 0.25 * blocks.mean(axis=0)]).astype(np.float32)


def _contrast(steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each step over the usual one round about (at least one grey level)."""
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
    """The end of the part before a seam and the start of the one after it.

    They differ where the seam is one side of a line of one colour with an edge on the other side,
    and where scaling has mixed the two parts in the row at the seam.
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
