"""Parameters of sharding and splitting."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from schemas.base import Schema


class ShardParams(Schema):
    """Settings of the WebDataset shards."""

    samples_per_shard: PositiveInt = 1000
    """A shard is closed at this many samples."""

    bytes_per_shard: PositiveInt = 256 * 1024 * 1024
    """Or before it grows past this."""


class SplitParams(Schema):
    """Settings of the train/val split."""

    by: Literal["source", "scene"] = "source"
    """``source``: no film in both; ``scene`` is allowed and flagged on the card."""

    val_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    """Aimed-at share of the sources (or scenes) in val."""
