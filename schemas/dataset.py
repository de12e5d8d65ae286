"""A dataset version: its manifest, what checks say of it, and the references others use."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveInt

from schemas.base import Key, RelativePath, Schema, Version
from schemas.captioning import CaptionParams
from schemas.config import Config
from schemas.filtering import FilterParams
from schemas.ingest import IngestParams
from schemas.layout import Layout
from schemas.sample import Split
from schemas.sharding import ShardParams, SplitParams
from schemas.source import Licence
from schemas.stage import SourceStages, StageRef
from schemas.stitch import StitchParams
from schemas.store_paths import dataset_path
from schemas.verdict import Ledger

SCHEMA_VERSION = 1
"""Version of the store's formats; incremented when an old reader would misread them."""

NOT_CHECKED = "not checked"
"""Stands where a model would be named that a build did not have."""

SourceSplit = Literal["train", "val", "both", "none"]
"""Split of a source's samples: ``both`` only when split by scene, ``none`` without samples."""


class BuildConfig(Schema):
    """The sections of a ``Config`` that decide what is in a dataset.

    Training and sampling are left out, so that other training parameters do not make another
    dataset. Settings that say only where something lies are made portable first (see
    ``iclora.dataset.collect``).
    """

    preset: str
    layout: Layout
    ingest: IngestParams
    filter: FilterParams
    stitch: StitchParams
    caption: CaptionParams
    shard: ShardParams
    split: SplitParams

    @classmethod
    def of(cls, config: Config) -> Self:
        """The part of the whole chain's configuration that is about data."""
        return cls(**{name: getattr(config, name) for name in cls.model_fields})


class ReviewLine(Schema):
    """One row of a person's ``review.csv``."""

    key: Key
    choice: Literal["keep", "drop"] = "keep"
    caption: str = ""
    """The caption to use; empty keeps the one the sample has."""

    note: str = ""


class PublishParams(Schema):
    """Parameters of the publish stage."""

    name: Key
    config: BuildConfig
    review: tuple[ReviewLine, ...] = ()
    """A person's choices about samples."""

    film_world: bool
    """Every source is of the miniature's film world (see ``iclora.dataset.provenance``)."""


class ShardEntry(Schema):
    """One tar of samples."""

    file: RelativePath
    split: Split
    samples: PositiveInt
    size: PositiveInt
    """Bytes."""

    sha256: str
    md5: str


class SourceEntry(Schema):
    """Source as recorded in the manifest, without its location."""

    name: str
    kind: str
    split: SourceSplit
    samples: NonNegativeInt
    rights: Licence


class DatasetManifest(Schema):
    """``manifest.json``, written last: where it is, the dataset is whole."""

    schema_version: int = SCHEMA_VERSION
    name: Key
    version: Version
    """Digest of the shards, the parquet files, the models and the config."""

    preview: bool = False
    """CLIP or captions come from the miniature on sources outside its film world."""

    config: BuildConfig
    models: dict[str, str]
    """Role (clip, captioner, nsfw, faces, heads, tokenizer) to model, or ``not checked``."""

    samples: NonNegativeInt
    splits: dict[str, int]
    """``train`` and ``val`` to samples; both are always there."""

    scores: tuple[str, ...]
    """The names of the scores that every sample has, sorted."""

    shards: tuple[ShardEntry, ...]
    sources: tuple[SourceEntry, ...]
    ledger: Ledger
    digests: dict[RelativePath, str]
    """File name to sha256, for every other file of the folder."""


class DatasetRef(Schema):
    """A published dataset version."""

    name: Key
    version: str
    samples: NonNegativeInt
    url: str
    """URL or path of its folder."""

    @property
    def path(self) -> str:
        """Folder relative to the store's root."""
        return dataset_path(self.name, version=self.version)


class Published(Schema):
    """Result of the publish stage: the dataset and everything it was made of.

    The second half is what keeps stages from being swept away while a dataset needs them.
    """

    name: Key
    version: str
    samples: NonNegativeInt
    chosen: StageRef
    stages: tuple[SourceStages, ...]


class Problem(Schema):
    """Something ``verify`` found wrong."""

    key: str
    """The sample; empty if the problem is not about one."""

    shard: str
    """The file; empty if the problem is about the dataset as a whole."""

    problem: str
    """One sentence for a person."""


class Verification(Schema):
    """Result of ``verify``."""

    ok: bool
    samples: NonNegativeInt
    """Samples that were read."""

    problems: tuple[Problem, ...]
    """In the order of reading: the first one names the first broken sample."""
