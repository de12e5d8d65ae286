"""Parameters of sharding and splitting."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from schemas.base import Schema


class ShardParams(Schema):
    """How samples become shards."""

    samples_per_shard: PositiveInt = 1000
    bytes_per_shard: PositiveInt = 256 * 1024 * 1024


class SplitParams(Schema):
    """How samples are divided into train and val."""

    by: Literal["source", "scene"] = "source"
    val_share: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    """Aimed-at share of the sources (or scenes) in val."""
