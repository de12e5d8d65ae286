"""Conversion of a frame to a panel: verification, decoding, cropping, blurring and resampling."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from iclora.errors import BROKEN_PICTURE
from iclora.filtering.safety import SafetyModels
from iclora.models.face import FaceDetector
from iclora.stitching.canvas import Pixels
from iclora.stitching.crop import head_box, place_crop
from iclora.store import file_sha256
from schemas.base import Box, Schema
from schemas.filtering import SafetyParams
from schemas.frame import Frame
from schemas.layout import Layout
from schemas.stitch import StitchParams
from schemas.verdict import Verdict

STAGE = "stitch"

_BLUR = 0.12
"""Blur sigma as a fraction of the region's longer side; large enough to remove all features."""


class StitchStageParams(Schema):
    """Everything that the canvases of given sets depend on."""

    layout: Layout
    stitch: StitchParams
    safety: SafetyParams
    models: dict[str, str]
    """Name and revision of ``nsfw``, ``faces`` (to blur) and ``heads`` (kept whole by crops)."""


class StitchModels(NamedTuple):
    """Loaded models for converting frames to panels."""

    heads: FaceDetector | None
    """Detector for heads that no crop may cut."""

    safety: SafetyModels
    """Detectors for content to blur."""


class FrameRejected(Exception):
    """Raised when a frame cannot become a panel."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


class FittedPanel(NamedTuple):
    """Frame cropped and resampled to panel size."""

    pixels: Pixels
    """Array of shape [panel height, panel width, 3]."""

    source_box: Box
    sha256: str
    """SHA-256 of the whole frame's decoded RGB."""


def fit_frame(
    path: Path, frame: Frame, params: StitchStageParams, models: StitchModels
) -> FittedPanel:
    """Converts a frame to a panel.

    Raises:
        FrameRejected: The file is not the one that was ingested, cannot be decoded, is too small,
            or cannot be cropped without cutting a head.
    """
    image = _decode(path, frame)
    pixels = np.asarray(image, np.uint8)
    heads = models.heads(pixels) if models.heads else ()
    panel = (params.layout.panel_width, params.layout.panel_height)
    box, heads_cut = place_crop(
        pixels,
        frame.crop,
        panel,
        heads=[head_box(face.box) for face in heads],
        salient=params.stitch.crop == "saliency",
    )
    if heads_cut:
        detail = f"{frame.id}: every crop cuts a head"
        raise FrameRejected(
            Verdict.rejected(STAGE, frame.id, "head_cut", detail, value=heads_cut, threshold=0.0)
        )
    zoom = round(max(panel[0] / (box[2] - box[0]), panel[1] / (box[3] - box[1])), 4)
    max_zoom = params.stitch.max_upscale
    if zoom > max_zoom:
        detail = f"{frame.id}: its crop would be enlarged {zoom} times"
        raise FrameRejected(
            Verdict.rejected(STAGE, frame.id, "too_small", detail, value=zoom, threshold=max_zoom)
        )
    blurred = blur_unsafe(image, pixels, params.safety, models.safety)
    small = blurred.resize(panel, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    return FittedPanel(
        np.asarray(small, np.uint8), box, hashlib.sha256(image.tobytes()).hexdigest()
    )


def _decode(path: Path, frame: Frame) -> Image.Image:
    if not path.is_file() or file_sha256(path) != frame.content:
        detail = f"{frame.file} is not the file that was ingested"
        raise FrameRejected(Verdict.failed(STAGE, frame.id, "changed", detail))
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except BROKEN_PICTURE as error:
        detail = f"{frame.file}: {error}"
        raise FrameRejected(Verdict.failed(STAGE, frame.id, "unreadable", detail)) from error


def blur_unsafe(
    image: Image.Image, pixels: Pixels, params: SafetyParams, models: SafetyModels
) -> Image.Image:
    """Blurs what the safety policy selects: the whole frame if unsafe, otherwise its faces."""
    nsfw, faces = params.nsfw, params.faces
    regions: list[Box] = []
    if models.nsfw and nsfw.action == "blur" and models.nsfw(image) >= nsfw.threshold:
        regions = [(0, 0, image.width, image.height)]
    elif models.faces and faces.action == "blur":
        regions = [face.box for face in models.faces(pixels) if face.confidence >= faces.threshold]
    if not regions:
        return image
    blurred = pixels.copy()
    for x0, y0, x1, y1 in regions:
        sigma = max(1.0, _BLUR * max(x1 - x0, y1 - y0))
        blurred[y0:y1, x0:x1] = cv2.GaussianBlur(blurred[y0:y1, x0:x1], (0, 0), sigma)
    return Image.fromarray(blurred)
