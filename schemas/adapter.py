"""An adapter: a trained LoRA and the record of its run."""

from __future__ import annotations

from pydantic import NonNegativeInt

from schemas.base import Key, Schema
from schemas.config import Config


class RunRecord(Schema):
    """``run.json``."""

    name: Key
    version: str
    """Digest of the config, the dataset, the base's revision and the seed: known before step 1."""

    dataset: str
    base: str
    """Base model and revision."""

    config: Config
    steps: NonNegativeInt
    loss: float
    """Mean over the last tenth of the steps."""

    skipped: NonNegativeInt = 0
    """Steps whose loss was not finite."""

    resumed_from: NonNegativeInt = 0
    seconds: float
    counts: dict[str, int] = {}
    versions: dict[str, str] = {}
    """Library to version."""


class AdapterRef(Schema):
    """A trained adapter's folder."""

    name: Key
    version: str
    url: str
    steps: NonNegativeInt
    loss: float
    resumed_from: NonNegativeInt = 0
