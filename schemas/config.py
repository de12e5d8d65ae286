"""The whole chain's resolved configuration: what a preset and its overrides add up to."""

from __future__ import annotations

from schemas.base import Schema
from schemas.captioning import CaptionParams
from schemas.evaluation import EvaluateParams
from schemas.filtering import FilterParams
from schemas.ingest import IngestParams
from schemas.layout import Layout
from schemas.sampling import SampleParams
from schemas.sharding import ShardParams, SplitParams
from schemas.stitch import StitchParams
from schemas.training import DataParams, TrainParams


class BaseParams(Schema):
    """The base model an adapter is trained on."""

    model: str = "miniature/flux"
    """Folder or hub id of a diffusers pipeline."""

    family: str = "flux1"
    """Model family: a module of ``iclora/models/families``."""


class Config(Schema):
    """One section a stage; the JSON beside every artifact."""

    preset: str = "miniature"
    """The preset's name, for the record."""

    layout: Layout = Layout()
    ingest: IngestParams = IngestParams()
    filter: FilterParams = FilterParams()
    stitch: StitchParams = StitchParams()
    caption: CaptionParams = CaptionParams()
    shard: ShardParams = ShardParams()
    split: SplitParams = SplitParams()
    base: BaseParams = BaseParams()
    data: DataParams = DataParams()
    train: TrainParams = TrainParams()
    sample: SampleParams = SampleParams()
    evaluate: EvaluateParams = EvaluateParams()
