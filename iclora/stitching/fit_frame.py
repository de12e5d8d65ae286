"""Conversion of a frame to a panel: verification, decoding, cropping, blurring and resampling."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from iclora.errors import BROKEN_PICTURE
from iclora.filtering.safety import SafetyModels
from iclora.models.face import FaceDetector
from iclora.stitching.crop import head_box, place_crop
from iclora.stitching.geometry import Pixels
from iclora.store import file_sha256
from schemas.base import Box
from schemas.filtering import SafetyParams
from schemas.frame import Frame
from schemas.layout import Layout
from schemas.stitch import StitchParams
from schemas.verdict import Verdict

STAGE = "stitch"

_BLUR = 0.12
"""Blur sigma as a fraction of the region's longer side; large enough to remove all features."""


class FrameRejected(Exception):
    """Raised when a frame cannot become a panel."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


class FitSettings(NamedTuple):
    """Settings and models for converting frames to panels."""

    layout: Layout
    params: StitchParams
    safety: SafetyParams
    heads: FaceDetector | None
    """Detector for heads that no crop may cut."""

    safety_models: SafetyModels
    """Detectors for content to blur."""


class FittedPanel(NamedTuple):
    """Frame cropped and resampled to panel size."""

    pixels: Pixels
    """Array of shape [panel height, panel width, 3]."""

    source_box: Box
    sha256: str
    """SHA-256 of the whole frame's decoded RGB."""


def fit_frame(path: Path, frame: Frame, settings: FitSettings) -> FittedPanel:
    """Converts a frame to a panel.

    Raises:
        FrameRejected: The file is not the one that was ingested, cannot be decoded, is too small,
            or cannot be cropped without cutting a head.
    """
    image = _decode(path, frame)
    pixels = np.asarray(image, np.uint8)
    heads = settings.heads(pixels) if settings.heads else ()
    panel = (settings.layout.panel_width, settings.layout.panel_height)
    window = place_crop(
        pixels,
        frame.crop,
        panel,
        heads=[head_box(face.box) for face in heads],
        salient=settings.params.crop == "saliency",
    )
    if window.heads_cut:
        detail = f"{frame.id}: every crop cuts a head"
        raise _refusal(frame, "head_cut", detail, float(window.heads_cut), 0.0)
    _require_size(frame, window.box, panel, settings.params)
    blurred = _blur(image, pixels, settings)
    small = blurred.resize(panel, Image.Resampling.LANCZOS, box=window.box, reducing_gap=3.0)
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return FittedPanel(np.asarray(small, np.uint8), window.box, digest)


def _decode(path: Path, frame: Frame) -> Image.Image:
    if not path.is_file() or file_sha256(path) != frame.content:
        raise _failure(frame, "changed", f"{frame.file} is not the file that was ingested")
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except BROKEN_PICTURE as error:
        raise _failure(frame, "unreadable", f"{frame.file}: {error}") from error


def _failure(frame: Frame, reason: str, detail: str) -> FrameRejected:
    return FrameRejected(
        Verdict(
            stage=STAGE,
            id=frame.id,
            outcome="failed",
            reason=reason,
            detail=detail,
            source=frame.source,
        )
    )


def _refusal(
    frame: Frame, reason: str, detail: str, value: float, threshold: float
) -> FrameRejected:
    return FrameRejected(
        Verdict(
            stage=STAGE,
            id=frame.id,
            outcome="rejected",
            reason=reason,
            detail=detail,
            value=value,
            threshold=threshold,
            source=frame.source,
        )
    )


def _require_size(frame: Frame, box: Box, panel: tuple[int, int], params: StitchParams) -> None:
    zoom = round(max(panel[0] / (box[2] - box[0]), panel[1] / (box[3] - box[1])), 4)
    if zoom > params.max_upscale:
        detail = f"{frame.id}: its crop would be enlarged {zoom} times"
        raise _refusal(frame, "too_small", detail, zoom, params.max_upscale)


def _blur(image: Image.Image, pixels: Pixels, settings: FitSettings) -> Image.Image:
    """Blurs the regions that the safety policy selects."""
    regions = blur_boxes(image, pixels, settings.safety_models, settings.safety)
    if not regions:
        return image
    blurred = pixels.copy()
    for x0, y0, x1, y1 in regions:
        sigma = max(1.0, _BLUR * max(x1 - x0, y1 - y0))
        blurred[y0:y1, x0:x1] = cv2.GaussianBlur(blurred[y0:y1, x0:x1], (0, 0), sigma)
    return Image.fromarray(blurred)


def blur_boxes(
    image: Image.Image, pixels: Pixels, safety_models: SafetyModels, safety: SafetyParams
) -> Sequence[Box]:
    """Returns the regions of a frame to blur: the whole frame if unsafe, otherwise its faces."""
    nsfw, faces = safety.nsfw, safety.faces
    if (
        safety_models.nsfw
        and nsfw.action == "blur"
        and safety_models.nsfw([image])[0] >= nsfw.threshold
    ):
        return [(0, 0, image.width, image.height)]
    if safety_models.faces and faces.action == "blur":
        found = safety_models.faces(pixels)
        return [face.box for face in found if face.confidence >= faces.threshold]
    return []
