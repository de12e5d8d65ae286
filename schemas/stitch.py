"""Parameters of stitching: sets to canvases."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Schema


class StitchParams(Schema):
    """Settings of stitching: cropping frames to panels and encoding the canvas."""

    crop: Literal["saliency", "center"] = "saliency"
    """Crop to the panel's aspect: around the salient region, or the center."""

    face_model: str = ""
    """YuNet's ONNX file; without it crops ignore heads, and the dataset card says so."""

    max_upscale: Annotated[float, Field(ge=1.0, le=16.0)] = 2.0
    """Maximum factor by which a crop is enlarged to a panel; beyond it the set is too small."""

    format: Literal["jpg", "png", "webp"] = "jpg"
    """Image format of the canvas; png and webp are lossless."""

    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """JPEG quality, 1 to 100, at 4:4:4."""
