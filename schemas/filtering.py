"""Parameters of filtering: which frames are good, and which belong together."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from schemas.base import Cosine, Schema, Unit


class QualityParams(Schema):
    """Thresholds of the quality checks, measured on the crop at 512 px on the longer side.

    A value equal to its threshold passes.
    """

    min_side: PositiveInt = 256
    """Minimum length of the crop's shorter side, in pixels."""

    min_luma: Unit = 0.06
    """Minimum mean luma; darker frames are rejected as `black`."""

    max_luma: Unit = 0.94
    """Maximum mean luma; brighter frames are rejected as `blown`."""

    min_sharpness: NonNegativeFloat = 20.0
    """Minimum variance of the Laplacian of 8-bit luma; below it a frame is `blurred`."""

    min_entropy: NonNegativeFloat = 3.0
    """Entropy of the luma histogram (256 bins) below this, in bits: too little to see."""

    max_text: Unit = 0.35
    """Share of the frame's edges in lines of text above this: title cards and credits."""

    max_title: Unit = 0.01
    """Share of the frame's area under overlaid lettering above this: titles."""

    extra: dict[str, float] = {}
    """Thresholds of added checks (``docs/write-a-quality-check.md``), by their settings."""


class SafetyCheckParams(Schema):
    """Actions for frames in which a safety model finds something."""

    action: Literal["keep", "blur", "reject"] = "keep"
    """``blur``: the faces, or the whole panel, are blurred on the canvas."""

    model: str = ""
    """Folder, hub id or file of the model; without it the card says ``not checked``."""

    threshold: Unit = 0.5
    """Confidence from which a finding counts."""


class SafetyParams(Schema):
    """Optional checks with models of the user; without a model, a check is skipped."""

    nsfw: SafetyCheckParams = SafetyCheckParams()
    """An image classifier of transformers with a label such as ``nsfw`` or ``porn``."""

    faces: SafetyCheckParams = SafetyCheckParams()
    """YuNet's ONNX file."""


class SimilarityParams(Schema):
    """CLIP cosines between frames of one source; values equal to a bound are inside."""

    min_adjacent: Cosine = 0.6
    """Neighbors below this show different scenes."""

    near_duplicate: Cosine = 0.95
    """Frames above this are the same picture twice (ShotDirector, arXiv 2512.10286)."""

    min_first_last: Cosine = 0.5
    """Minimum similarity of a set's first and last frame."""

    same_scene: Cosine = 0.75
    """Minimum cosine at which shots at most ``max_gap`` apart belong to one scene."""

    unit: Literal["absolute", "percentile"] = "absolute"
    """``percentile``: all four are shares (0-1) of this dataset's own neighboring cosines."""

    @model_validator(mode="after")
    def _adjacent_is_below_near_duplicate(self) -> Self:
        if self.min_adjacent >= self.near_duplicate:
            raise ValueError(
                f"min_adjacent {self.min_adjacent} must be below {self.near_duplicate}"
            )
        return self

    @model_validator(mode="after")
    def _shares_are_shares(self) -> Self:
        shares = (self.min_adjacent, self.near_duplicate, self.min_first_last, self.same_scene)
        if self.unit == "percentile" and min(shares) < 0:
            raise ValueError(f"percentiles lie between 0 and 1, not {min(shares)}")
        return self


class SetParams(Schema):
    """Grouping of frames into sets."""

    similarity: SimilarityParams = SimilarityParams()
    max_hash_distance: Annotated[int, Field(ge=0, le=64)] = 6
    """Maximum Hamming distance of perceptual hashes, in bits, at which frames are near-
    duplicates."""

    max_sets_per_scene: PositiveInt = 4
    """Maximum number of sets per scene."""

    max_gap: NonNegativeInt = 5
    """Maximum number of shots (or images) between two neighbors of a set."""

    reuse_frames: bool = False
    """Allow a frame in more than one set; two sets then share at most half of their frames."""


class FilterParams(Schema):
    """Everything between frames and chosen sets."""

    quality: QualityParams = QualityParams()
    safety: SafetyParams = SafetyParams()
    sets: SetParams = SetParams()
    clip: str = "miniature/clip"
    """Folder, hub id or ``model:pretrained`` of open_clip. It sees whole frames, squashed to its
    square."""

    require: tuple[str, ...] = ()
    """Prompts of which one must win the zero-shot comparison with ``exclude`` and neutral ones."""

    exclude: tuple[str, ...] = ()
    """Prompts that reject a frame when one of them wins over ``require`` and neutral ones."""

    max_set_similarity: Cosine = 0.98
    """Two sets are duplicates if every panel of each has a more similar one in the other; the
    better set is kept."""

    max_sets: NonNegativeInt = 100
    """Number of sets to keep, the best that are most unlike each other; 0 keeps all."""
