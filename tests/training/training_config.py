"""Changed configurations for tests."""

from __future__ import annotations

from typing import Any

from schemas.base import Schema
from schemas.config import Config


def with_train(config: Config, **changes: Any) -> Config:
    """Returns a configuration with changed training settings; a table changes the keys it has."""
    train = config.train
    for key, value in changes.items():
        section = getattr(train, key)
        merges = isinstance(section, Schema) and isinstance(value, dict)
        changed = section.model_copy(update=value) if merges else value
        train = train.model_copy(update={key: changed})
    return config.model_copy(update={"train": train})
