"""The JSON of a sample: the same keys in every record, no nulls, floats always floats."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from schemas.base import Box, Key, Schema

Split = Literal["train", "val"]


class PanelRecord(Schema):
    """One panel of a sample and where it came from."""

    marker: str
    box: Box
    """Box of the panel in the canvas."""

    caption: str
    source: str
    source_box: Box
    """The region of the source picture that the panel shows."""

    shot: int
    time: float
    sha256: str
    """SHA-256 of the source frame's decoded RGB, before cropping."""


class CaptionRecord(Schema):
    """The structured half of a sample's caption."""

    prefix: str
    summary: str
    roles: tuple[str, ...]
    captioner: str
    image_sha256: str
    """SHA-256 of the canvas file that this caption was made for."""


class SampleRecord(Schema):
    """``<key>.json``."""

    key: Key
    layout: str
    width: PositiveInt
    height: PositiveInt
    panels: tuple[PanelRecord, ...]
    masks: tuple[Box, ...]
    """Boxes on the canvas that training must not learn from."""

    image_sha256: str
    """SHA-256 of the canvas file's bytes."""

    caption: CaptionRecord
    scores: dict[str, float]
    """The same names in every sample of a dataset."""

    licence: str
    split: Split
