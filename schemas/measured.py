"""Measurements of frames, before any decision."""

from __future__ import annotations

from schemas.base import Schema


class MeasuredBatch(Schema):
    """A batch of one source's frames with their measurements; no threshold has been applied."""

    frames: tuple[str, ...]
    """Ids of the frames that could be decoded, in order."""

    scores: dict[str, dict[str, float]]
    """Frame id to measurement to value, four decimals."""

    hashes: dict[str, str]
    """Frame id to its 64-bit perceptual hash, in hex."""

    unreadable: dict[str, str]
    """Frame id to why it could not be decoded."""

    embeddings: str
    """File with one unit vector per frame of ``frames``, float32 (.npy)."""
