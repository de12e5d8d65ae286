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
    """YuNet's ONNX file; without it no head is looked for, and the card says so."""

    max_upscale: Annotated[float, Field(ge=1.0, le=16.0)] = 2.0
    """A panel may be enlarged this many times from its crop; past it the set is too small."""

    format: Literal["jpg", "png", "webp"] = "jpg"
    """png and webp are lossless."""

    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """JPEG quality, 1 to 100, at 4:4:4."""
