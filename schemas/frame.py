"""Frames and sets, before they become a canvas."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from schemas.base import Box, Key, Schema


class Frame(Schema):
    """One picture kept from a shot, by reference."""

    id: Key
    """Derived from the source's digest, the shot and the time; unique and stable."""

    source: str
    """``Source.name``."""

    file: str
    """The picture, relative to its ingest stage's folder."""

    content: str
    """Digest of the file's bytes."""

    width: PositiveInt
    """Width of the upright picture, in pixels."""

    height: PositiveInt

    crop: Box
    """The region that is picture: bars, seams and cropped-away overlays left out."""

    masks: tuple[Box, ...] = ()
    """Overlays (logo, watermark, subtitle) that stay in the picture; not to be learned."""

    shot: int = -1
    """Number of the shot in its film, -1 if unknown."""

    time: float = -1.0
    """Seconds from the film's start, -1 if unknown."""

    scene: str = ""
    """The scene the source itself names (folder, pattern, group column), or empty."""


class ImageSet(Schema):
    """An ordered tuple of frames of one scene."""

    key: Key
    """Derived from the frames' ids; stable across rebuilds; becomes the sample's key."""

    source: str
    scene: NonNegativeInt = 0
    """Number of the scene within its source."""

    frames: tuple[Frame, ...]
    scores: dict[str, float] = {}
    """Measured on the frames: quality, similarities; four decimals."""

    caption: str = ""
    """A caption that came with the source; empty if one must be made."""
