"""Frames and sets, before they become a canvas."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from schemas.base import Box, Key, Schema


class Frame(Schema):
    """Image kept from a shot, by reference."""

    id: Key
    """Derived from the source's digest, the shot and the time; unique and stable."""

    source: str
    """``Source.name``."""

    file: str
    """Image file, relative to its ingest stage's folder."""

    content: str
    """Digest of the file's bytes."""

    width: PositiveInt
    """Width of the upright image, in pixels."""

    height: PositiveInt

    crop: Box
    """Region with picture content, without bars, seams and cropped overlays."""

    masks: tuple[Box, ...] = ()
    """Overlays (logo, watermark, subtitle) inside the crop; not to be learned."""

    shot: int = -1
    """Number of the shot in its film, -1 if unknown."""

    time: float = -1.0
    """Seconds from the film's start, -1 if unknown."""

    scene: str = ""
    """Scene named by the source (folder, pattern, group column), or empty."""


class ImageSet(Schema):
    """Frames of one scene in order."""

    key: Key
    """Derived from the frames' ids; stable across rebuilds; becomes the sample's key."""

    source: str
    scene: NonNegativeInt = 0
    """Number of the scene within its source."""

    frames: tuple[Frame, ...]
    scores: dict[str, float] = {}
    """Worst measurement of the frames per check, and similarities; four decimals."""

    caption: str = ""
    """Caption from the source; empty if one must be written."""
