"""Metrics on pixels alone: seams, clipping, flatness, blur, residue.

Legend: H W canvas height and width, luma is 0 to 255.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from iclora.evaluation.metrics import Array
from schemas.layout import Layout

THUMB = 16
"""Side of the luma thumbnails used to compare composition, in pixels."""

SEAM_RANK = 0.95
"""Share of the inner lines that a seam must exceed in strength."""

_WORKING_SIDE = 512
"""Longer side in pixels for measuring seams and artifacts; seams are no sharper at full size."""

_INNER = 0.12
"""Share of a panel next to its border whose lines are attributed to the border's seam."""

_BLOCK = 8
_FLAT_BLOCK = 1.0
"""Standard deviation of an 8x8 block's luma below which the block is flat."""

_BLACK, _WHITE = 1, 254
_CORNER = 0.2
"""Share of the canvas width and height covered by a corner box."""


class PixelScores(NamedTuple):
    """Pixel metrics of canvases; the leading axes [...] are those of the canvases."""

    thumbs: Array
    """Luma thumbnails, [..., P, 16, 16], 0 to 1."""

    seams: Array
    """Share of the layout's seams that were found, [...]."""

    inner: Array
    """Strongest line inside each panel, [..., P], in square roots of luma levels."""

    clipping: Array
    """Share of pixels at black or white, [...]."""

    flatness: Array
    """Share of 8x8 blocks without structure, [...]."""

    sharpness: Array
    """log10(1 + variance of the Laplacian), [...]."""

    corners: Array
    """Gradient magnitudes in the corner boxes, [..., 4, h, w], for ``residue``."""


def measure_canvas(canvas: Image.Image, layout: Layout) -> PixelScores:
    """Measures one canvas, shrunk to 512 pixels on the longer side if larger."""
    small = canvas.convert("RGB")
    small.thumbnail((_WORKING_SIDE, _WORKING_SIDE), Image.Resampling.BOX)
    rgb = np.asarray(small)
    luma = np.asarray(small.convert("L"), np.float64)
    across, down = small.width / layout.width, small.height / layout.height
    boxes = [
        (round(x0 * across), round(y0 * down), round(x1 * across), round(y1 * down))
        for x0, y0, x1, y1 in layout.boxes
    ]
    strengths = [_inner_lines(luma[y0:y1, x0:x1]) for x0, y0, x1, y1 in boxes]
    thumbs = [
        canvas.crop(box).convert("L").resize((THUMB, THUMB), Image.Resampling.BOX)
        for box in layout.boxes
    ]
    center = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * center
    rows, columns = luma.shape[0] // _BLOCK, luma.shape[1] // _BLOCK
    blocks = luma[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    clipped = (rgb <= _BLACK).all(axis=2) | (rgb >= _WHITE).all(axis=2)
    return PixelScores(
        thumbs=np.stack([np.asarray(thumb, np.float64) for thumb in thumbs]) / 255.0,
        seams=_seams_found(luma, layout, boxes, strengths),
        inner=np.array([max(rows.max(), columns.max()) for rows, columns in strengths]),
        clipping=np.asarray(clipped.mean(), np.float64),
        flatness=np.asarray((blocks.std(axis=(1, 3)) < _FLAT_BLOCK).mean(), np.float64),
        sharpness=np.asarray(np.log10(1.0 + laplacian.var()), np.float64),
        corners=_corners(luma),
    )


def structure(seams: Array, inner: Array, limit: float) -> Array:
    """Averages the share of seams found and the share of panels that are one image.

    Args:
        seams: [...] share of the seams found.
        inner: [..., P] the strongest line inside each panel.
        limit: strength up to which a line counts as part of an image.

    Returns:
        [...] the mean of both shares, 0 to 1; NaN where the canvas was not measured.
    """
    single = np.where(np.isnan(inner), np.nan, (inner <= limit).astype(np.float64))
    return (seams + single.mean(axis=-1)) / 2


def residue(corners: Array) -> Array:
    """Measures the corner content that a canvas shares with all others, such as a watermark.

    Args:
        corners: [S, 4, h, w] gradient magnitudes.

    Returns:
        [S] the largest correlation, over the corners, of a canvas' gradients with the mean of the
        other canvases'; about 0 without a residue, near 1 with one. NaN with fewer than three.
    """
    count = len(corners)
    if count < 3:  # noqa: PLR2004 - two pictures' agreement is no pattern
        return np.full(count, np.nan)
    rows = corners.reshape(count, 4, -1)
    others = (np.nansum(rows, axis=0, keepdims=True) - rows) / (count - 1)
    return _correlation(rows, others).max(axis=1)


def _correlation(first: Array, second: Array) -> Array:
    a = first - first.mean(axis=-1, keepdims=True)
    b = second - second.mean(axis=-1, keepdims=True)
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return (a * b).sum(axis=-1) / np.where(norms > 0, norms, 1.0)


def _inner_lines(panel: Array) -> tuple[Array, Array]:
    """Computes the strengths of a panel's rows and columns, without those near its border."""
    inner: list[Array] = []
    for picture in (panel, panel.T):
        margin = max(2, round(len(picture) * _INNER))
        inner.append(line_strengths(picture)[margin - 1 : len(picture) - margin - 1])
    return inner[0], inner[1]


def line_strengths(picture: Array) -> Array:
    """Scores each horizontal line of an image as a seam.

    The score is the mean root of the jump across the line, so that many small jumps outweigh a few
    large ones, times 1 - the agreement of the outlines on both sides: objects cross a horizon, but
    not a seam. On the film world it detects 94 % of panels glued from two images, at 2 % false
    positives.

    Args:
        picture: [H, W] luma.

    Returns:
        [H - 1]; the first value is the line between the first two rows.
    """
    jumps = np.sqrt(np.abs(np.diff(picture, axis=0))).mean(axis=1)
    outlines = np.abs(np.diff(picture, axis=1))
    soft = outlines[:, :-2] + 2 * outlines[:, 1:-1] + outlines[:, 2:]
    flat = soft.max(axis=1) < 4 * _FLAT_BLOCK
    agreement = np.where(flat[:-1] & flat[1:], 1.0, _correlation(soft[:-1], soft[1:]))
    return jumps * (1.0 - agreement.clip(min=0.0))


def _seams_found(
    luma: Array,
    layout: Layout,
    boxes: list[tuple[int, int, int, int]],
    strengths: list[tuple[Array, Array]],
) -> Array:
    """Compares each border between two panels with the inner lines of the same direction."""
    usual = [
        np.quantile(np.concatenate([s[axis] for s in strengths]), SEAM_RANK) for axis in (0, 1)
    ]
    stronger: list[bool] = []
    for panel, (x0, y0, x1, y1) in enumerate(boxes):
        if panel >= layout.columns:
            stronger.append(_strength_at(luma[:, x0:x1], y0) > usual[0])
        if panel % layout.columns:
            stronger.append(_strength_at(luma.T[:, y0:y1], x0) > usual[1])
    return np.asarray(np.mean(stronger), np.float64)


def _strength_at(picture: Array, line: int) -> float:
    """Returns the maximum strength around row ``line``: models miss the border by a pixel."""
    return float(line_strengths(picture[line - 2 : line + 2]).max())


def _corners(luma: Array) -> Array:
    height, width = max(4, int(luma.shape[0] * _CORNER)), max(4, int(luma.shape[1] * _CORNER))
    down, across = np.gradient(luma)
    edges = np.hypot(down, across)
    halves = (edges[:height], edges[-height:])
    return np.stack([part for half in halves for part in (half[:, :width], half[:, -width:])])
