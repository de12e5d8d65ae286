"""One frame becomes one panel: checked, decoded, cropped, resampled."""

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
"""Sigma of the blur as a share of the blurred region's longer side: no features remain."""


class FrameRejected(Exception):
    """A frame that cannot become a panel."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


class FitSettings(NamedTuple):
    """How frames become panels."""

    layout: Layout
    params: StitchParams
    safety: SafetyParams
    heads: FaceDetector | None
    """Finds the heads that no crop may cut."""

    safety_models: SafetyModels
    """Find what is to be blurred."""


class FittedPanel(NamedTuple):
    """A frame in its panel."""

    pixels: Pixels
    """[panel height, panel width, 3]."""

    source_box: Box
    sha256: str
    """Of the whole frame's decoded RGB."""


def fit_frame(path: Path, frame: Frame, settings: FitSettings) -> FittedPanel:
    """Makes the panel of a frame.

    Raises:
        Refusal: the file is not the one that was sifted, cannot be decoded, is too small, or
            cannot be cropped without cutting a head.
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
    """The frame with what the policy wants blurred."""
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
    """What is to be blurred in a frame: all of it if unsafe, otherwise its faces."""
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
