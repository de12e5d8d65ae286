"""References to finished stages, and the manifests that they point to."""

from __future__ import annotations

from pydantic import NonNegativeInt

from schemas.base import Box, Key, Schema
from schemas.caption import Caption
from schemas.frame import Frame, ImageSet
from schemas.sample import PanelRecord
from schemas.source import Source
from schemas.store_paths import stage_path
from schemas.verdict import Verdict


class StageRef(Schema):
    """A finished stage: ``stages/<stage>/<digest>/`` in the store."""

    stage: str
    digest: str

    @property
    def path(self) -> str:
        """Folder relative to the store's root."""
        return stage_path(self.stage, digest=self.digest)


class Ingested(Schema):
    """One source, cut into shots and frames."""

    source: Source
    frames: tuple[Frame, ...]
    given: tuple[ImageSet, ...] = ()
    """Sets that the source already holds (stitched canvases); grouping leaves them as they are."""

    seen: NonNegativeInt
    """Shots or pictures found."""

    verdicts: tuple[Verdict, ...]


class MeasuredBatch(Schema):
    """A batch of one source's frames with their measurements; no threshold has been applied."""

    frames: tuple[str, ...]
    """Ids of the frames that could be decoded, in order."""

    scores: dict[str, dict[str, float]]
    """Frame id to measurement to value, four decimals."""

    hashes: dict[str, str]
    """Frame id to its 64-bit perceptual hash, in hex."""

    unreadable: dict[str, str]
    """Frame id to why it could not be decoded."""

    embeddings: str
    """File with one unit vector per frame of ``frames``, float32 (.npy)."""


class Scored(Schema):
    """One source's frames with their quality and embeddings."""

    ingested: StageRef
    frames: tuple[Frame, ...]
    """Frames of good quality, in order."""

    given: tuple[ImageSet, ...] = ()
    scores: dict[str, dict[str, float]]
    """Frame id to measurement to value."""

    hashes: dict[str, str]
    """Frame id to its 64-bit perceptual hash, in hex."""

    embeddings: str
    """File with one unit vector per kept frame, float32, in the order of ``frames`` (.npy)."""

    encoder: str
    """The CLIP model and revision that made them."""

    seen: NonNegativeInt
    verdicts: tuple[Verdict, ...]


class Formed(Schema):
    """One source's frames grouped into sets."""

    scored: StageRef
    sets: tuple[ImageSet, ...]
    seen: NonNegativeInt
    """Frames that could have been in a set."""

    verdicts: tuple[Verdict, ...]
    """One per frame."""


class Chosen(Schema):
    """The sets of the whole build that go on."""

    sets: tuple[ImageSet, ...]
    seen: NonNegativeInt
    verdicts: tuple[Verdict, ...]


class Canvas(Schema):
    """One stitched set."""

    key: Key
    file: str
    """Relative to the stitch stage's folder."""

    image_sha256: str
    panels: tuple[PanelRecord, ...]
    """Captions still empty."""

    masks: tuple[Box, ...]
    set: ImageSet


class Stitched(Schema):
    """The canvases of one source."""

    source: Source
    canvases: tuple[Canvas, ...]
    seen: NonNegativeInt
    verdicts: tuple[Verdict, ...]


class CaptionedSet(Schema):
    """A caption bound to the picture it describes."""

    key: Key
    image_sha256: str
    caption: Caption
    scores: dict[str, float] = {}


class Captioned(Schema):
    """The captions of one source's canvases."""

    stitched: StageRef
    captions: tuple[CaptionedSet, ...]
    seen: NonNegativeInt
    verdicts: tuple[Verdict, ...]


class SourceStages(Schema):
    """Everything the build made of one source."""

    ingested: StageRef
    scored: StageRef
    formed: StageRef
    stitched: StageRef
    captioned: StageRef
