"""Optional checks for unsafe content and faces, with user-provided models.

A check without available weights is skipped and the build continues; the manifest and the dataset
card then record ``not checked`` instead of a silent pass. Frames are rejected here; blurring
happens on the canvas (``iclora.stitching``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from iclora.errors import MissingModel
from iclora.filtering.checks import Rejection, Scores
from iclora.models.classifier import SafetyClassifier, classifier_label, load_classifier
from iclora.models.face import FaceDetector, face_label, load_faces
from schemas.dataset import NOT_CHECKED
from schemas.filtering import SafetyCheckParams, SafetyParams

log = logging.getLogger(__name__)

Model = TypeVar("Model")


class SafetyModels(NamedTuple):
    """Available safety models."""

    nsfw: SafetyClassifier | None = None
    faces: FaceDetector | None = None


def load_safety_models(params: SafetyParams) -> SafetyModels:
    """Loads the models that are enabled, configured and available."""
    return SafetyModels(
        _load_if_available("nsfw", params.nsfw, load_classifier),
        _load_if_available("faces", params.faces, load_faces),
    )


def safety_labels(params: SafetyParams) -> dict[str, str]:
    """Returns the model of each check as ``name@revision``, or ``not checked``."""
    return {
        "nsfw": _load_if_available("nsfw", params.nsfw, classifier_label) or NOT_CHECKED,
        "faces": _load_if_available("faces", params.faces, face_label) or NOT_CHECKED,
    }


def _load_if_available(
    name: str, params: SafetyCheckParams, load: Callable[[str], Model]
) -> Model | None:
    """Loads a check's model; returns None if it is disabled, not configured or not available."""
    if params.action == "keep":
        return None
    if not params.model:
        log.warning("%s: policy %s, but no model is named: not checked", name, params.action)
        return None
    try:
        return load(params.model)
    except MissingModel as error:
        log.warning("%s: not checked: %s", name, error)
        return None


def safety_scores(models: SafetyModels, picture: Image.Image) -> Scores:
    """Computes the confidences (0-1) of unsafe content and faces in a frame, where checked."""
    scores: Scores = {}
    if models.nsfw:
        scores["nsfw"] = models.nsfw(picture)
    if models.faces:
        faces = models.faces(np.asarray(picture, np.uint8))
        scores["face"] = faces[0].confidence if faces else 0.0
    return scores


def safety_rejection(scores: Scores, params: SafetyParams) -> Rejection | None:
    """Returns the safety policy's rejection of a frame, or None."""
    for name, check in (("nsfw", params.nsfw), ("face", params.faces)):
        if check.action == "reject" and scores.get(name, -1.0) >= check.threshold:
            return Rejection(name, scores[name], check.threshold)
    return None
