"""Parameters of sharding and splitting."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from schemas.base import Schema


class ShardParams(Schema):
    """Settings of the WebDataset shards."""

    samples_per_shard: PositiveInt = 1000
    """Maximum number of samples per shard."""

    bytes_per_shard: PositiveInt = 256 * 1024 * 1024
    """Maximum size of a shard in bytes."""


class SplitParams(Schema):
    """Settings of the train/val split."""

    by: Literal["source", "scene"] = "source"
    """``source``: no film in both; ``scene`` is allowed and flagged on the card."""

    val_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    """Target share of sources (or scenes) in the val split."""
