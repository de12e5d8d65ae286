"""Parameters of sifting: which frames are good, and which belong together."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from schemas.base import Cosine, Schema, Unit


class QualityParams(Schema):
    """Thresholds on one frame, measured at 512 px on the longer side."""

    min_side: PositiveInt = 256
    min_luma: Unit = 0.06
    """Mean luma below this: a black frame."""

    max_luma: Unit = 0.94
    min_sharpness: NonNegativeFloat = 20.0
    """Variance of the Laplacian (8-bit luma)."""

    min_entropy: NonNegativeFloat = 3.0
    """Bits of the luma histogram (256 bins)."""

    max_text: Unit = 0.35
    """Share of the picture covered by text lines: title cards and credits."""


class BandParams(Schema):
    """CLIP cosines between frames of one set."""

    floor: Cosine = 0.6
    """Neighbours below this show different scenes."""

    ceiling: Cosine = 0.95
    """Frames above this are the same picture twice."""

    ends: Cosine = 0.5
    """First and last must still be at least this similar."""

    unit: Literal["absolute", "percentile"] = "absolute"
    """``percentile``: floor, ceiling and ends are shares (0-1) of this dataset's own cosines."""

    @model_validator(mode="after")
    def _floor_is_below_ceiling(self) -> Self:
        if self.floor >= self.ceiling:
            raise ValueError(f"floor {self.floor} must be below ceiling {self.ceiling}")
        return self


class SetParams(Schema):
    """How frames become sets."""

    band: BandParams = BandParams()
    max_hash_distance: Annotated[int, Field(ge=0, le=64)] = 6
    """Perceptual hashes at most this many bits apart are near-duplicates."""

    max_sets_a_scene: PositiveInt = 4
    max_gap: PositiveInt = 5
    """Shots that may lie between two neighbours of a set."""

    reuse_frames: bool = False
    """Allow a frame in more than one set."""


class SiftParams(Schema):
    """Everything between frames and chosen sets."""

    quality: QualityParams = QualityParams()
    sets: SetParams = SetParams()
    clip: str = "miniature/clip"
    """Folder, hub id or ``model:pretrained`` of open_clip."""

    require: tuple[str, ...] = ()
    """Prompts of which one must win the zero-shot comparison."""

    exclude: tuple[str, ...] = ()
    """Prompts that reject a frame when one of them wins."""

    max_set_similarity: Cosine = 0.98
    """Two sets whose mean embeddings are closer are the same set; the better one is kept."""

    max_sets: NonNegativeInt = 100
    """Keep the N best that are most unlike each other; 0 keeps all."""
