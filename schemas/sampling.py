"""Parameters of sampling."""

from __future__ import annotations

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from schemas.base import Schema


class SampleParams(Schema):
    """How renders are drawn."""

    steps: PositiveInt = 20
    guidance: NonNegativeFloat = 3.5
    """Of the guidance embedding (distilled models)."""

    true_cfg: PositiveFloat = 1.0
    """True classifier-free guidance; 1 is off."""

    seed: NonNegativeInt = 42
    batch: PositiveInt = 1
    prompts: tuple[str, ...] = ()
    """Captions of the sample sheets; when empty, val captions, else train captions."""
