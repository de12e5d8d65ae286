"""Overlay policies: crop, mask or reject frames with logos, watermarks or subtitles."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.base import Box
from schemas.frame import Frame
from schemas.ingest import OverlayPolicy


def apply_overlay_policy(frame: Frame, boxes: Iterable[Box], policy: OverlayPolicy) -> Frame | None:
    """Applies an overlay policy to a frame.

    Args:
        frame: Frame with its crop set.
        boxes: Boxes of overlays, in pixels of the frame's picture.
        policy: Policy to apply.

    Returns:
        The cropped, masked or unchanged frame, or None if the policy rejects it.
    """
    inside = [part for box in boxes if (part := intersection(box, frame.crop)) is not None]
    if policy == "ignore" or not inside:
        return frame
    if policy == "reject":
        return None
    if policy == "mask":
        return frame.model_copy(update={"masks": (*frame.masks, *inside)})
    crop = frame.crop
    for box in inside:
        crop = crop_away(crop, box)
    masks = tuple(part for mask in frame.masks if (part := intersection(mask, crop)) is not None)
    return frame.model_copy(update={"crop": crop, "masks": masks})


def intersection(one: Box, other: Box) -> Box | None:
    """Returns the intersection of two boxes, or None if they are disjoint."""
    x0, y0 = max(one[0], other[0]), max(one[1], other[1])
    x1, y1 = min(one[2], other[2]), min(one[3], other[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def crop_away(crop: Box, box: Box) -> Box:
    """Returns the largest full-width or full-height part of a crop that excludes a box."""
    inside = intersection(crop, box)
    if inside is None:
        return crop
    x0, y0, x1, y1 = crop
    parts = [
        (x0, y0, x1, inside[1]),
        (x0, inside[3], x1, y1),
        (x0, y0, inside[0], y1),
        (inside[2], y0, x1, y1),
    ]
    return max(parts, key=lambda part: (part[2] - part[0]) * (part[3] - part[1]))
