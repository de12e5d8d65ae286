"""Parameters of ingest: sources to frames."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from schemas.base import Operational, Schema, Unit

OverlayPolicy = Literal["crop", "mask", "reject", "ignore"]


class ShotParams(Schema):
    """Shot detection with PySceneDetect's detectors and parameter names."""

    detector: Literal["adaptive", "content", "histogram", "transnet"] = "adaptive"
    """``transnet`` needs a model file; ``histogram`` is the one for fades."""

    threshold: NonNegativeFloat = 0.0
    """0 takes the detector's usual one: adaptive 3.5 (the best mean F1 over BBC, AutoShot and
    ClipShots, PySceneDetect's benchmarks), content 27, histogram 0.2, transnet 0.5."""

    window: PositiveInt = 3
    """Adaptive only: frames on each side of the rolling average."""

    min_seconds: PositiveFloat = 0.6
    """Minimum shot length in seconds; shorter shots are joined to a neighbor."""

    model_file: str = ""
    """TransNetV2's ONNX file; needed by ``transnet``."""


class Cuts(Schema):
    """Shot detection."""

    fps: PositiveFloat
    frames: NonNegativeInt
    """Frames decoded."""

    cuts: tuple[int, ...]
    """Number of the first frame of every shot but the first; frames count from 0."""

    seconds: tuple[float, ...]
    """The same cuts in seconds from the first frame."""


class IngestParams(Schema):
    """Settings of ingestion: from sources to frames."""

    shots: ShotParams = ShotParams()
    candidates_per_shot: Annotated[int, Field(ge=1, le=32)] = 5
    """Evenly spaced candidate frames per shot; the sharpest is kept."""

    frames_per_shot: Annotated[int, Field(ge=1, le=8)] = 1
    """Frames kept per shot."""

    crop_bars: bool = True
    """Crop letterbox and pillarbox bars that are constant over the film."""

    watermark: OverlayPolicy = "mask"
    """Logos and watermarks: cropped away, masked from the loss, a reason to reject, or ignored."""

    subtitles: OverlayPolicy = "crop"
    """Burned-in subtitles: cropped away, masked from the loss, a reason to reject, or ignored."""

    scene_pattern: str = ""
    """Regular expression with one group that names the scene of a picture file."""

    image_column: str = "image"
    """Image column of Hugging Face datasets."""

    group_column: str = ""
    """Column of Hugging Face datasets whose equal values form one scene; empty is none."""

    allow_opt_out: Annotated[bool, Operational] = False
    """Ingest sources whose sidecar reserves them from training."""

    max_pixels: Annotated[int, Field(gt=0, le=178_956_970)] = 100_000_000
    """A picture or film frame with more pixels is refused before it is decoded (Pillow refuses
    anything above the upper bound by itself)."""

    max_archive_ratio: PositiveFloat = 100.0
    """Maximum ratio of unpacked to packed size of an archive member."""

    max_archive_bytes: PositiveInt = 200_000_000_000
    """Maximum unpacked bytes per archive."""

    max_failed_share: Annotated[Unit, Operational] = 0.5
    """Maximum share of failed items per stage; above it the build stops."""


class IngestStageParams(IngestParams):
    """Parameters of the ingest stage of one source."""

    rows: PositiveInt
    """Panel rows of pre-stitched canvases."""

    columns: PositiveInt
