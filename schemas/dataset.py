"""A dataset version: its manifest and the references others use."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from schemas.base import Key, Schema
from schemas.config import Config
from schemas.sample import Split
from schemas.source import Licence
from schemas.verdict import Ledger

SCHEMA_VERSION = 1
"""Of the store's formats; raised when a reader of the old one would misread the new one."""


class ShardEntry(Schema):
    """One tar of samples."""

    file: str
    split: Split
    samples: PositiveInt
    size: PositiveInt
    """Bytes."""

    sha256: str
    md5: str


class SourceEntry(Schema):
    """What the manifest says of a source (never where it lay)."""

    name: str
    kind: str
    split: Split
    samples: NonNegativeInt
    rights: Licence


class DatasetManifest(Schema):
    """``manifest.json``, written last: where it is, the dataset is whole."""

    schema_version: int = SCHEMA_VERSION
    name: Key
    version: str
    """Digest of the shards, the parquet files and the config."""

    preview: bool = False
    """CLIP or captions come from the miniature on sources outside its film world."""

    config: Config
    models: dict[str, str]
    """Role (clip, captioner, face, nsfw) to model and revision, or ``not checked``."""

    samples: NonNegativeInt
    splits: dict[str, int]
    shards: tuple[ShardEntry, ...]
    sources: tuple[SourceEntry, ...]
    ledger: Ledger
    digests: dict[str, str]
    """File name to sha256, for every other file of the folder."""


class DatasetRef(Schema):
    """A published dataset version."""

    name: Key
    version: str
    samples: NonNegativeInt
    url: str
    """Of its folder."""
