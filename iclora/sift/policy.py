"""Optional checks for unsafe pictures and for faces, each by a model the user names.

A check whose weights are not there is not done, the build goes on, and the manifest and the card
say ``not checked``: a silent pass would be a lie. Rejecting happens here, on frames; blurring on
the canvas (``iclora.panels``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from iclora.errors import MissingModel
from iclora.models.classifier import SafetyClassifier, classifier_label, load_classifier
from iclora.models.face import FaceFinder, face_label, load_faces
from iclora.sift.picture import Look
from iclora.sift.quality import Fault, Scores
from schemas.sift import CheckParams, PolicyParams

log = logging.getLogger(__name__)

NOT_CHECKED = "not checked"
Model = TypeVar("Model")


class Checks(NamedTuple):
    """The models that are there."""

    nsfw: SafetyClassifier | None = None
    faces: FaceFinder | None = None


def load_checks(params: PolicyParams) -> Checks:
    """Loads the models that are wanted, named and there."""
    return Checks(
        _if_there("nsfw", params.nsfw, load_classifier),
        _if_there("faces", params.faces, load_faces),
    )


def check_labels(params: PolicyParams) -> dict[str, str]:
    """What checks ``nsfw`` and ``faces``: ``name@revision``, or ``not checked``."""
    return {
        "nsfw": _if_there("nsfw", params.nsfw, classifier_label) or NOT_CHECKED,
        "faces": _if_there("faces", params.faces, face_label) or NOT_CHECKED,
    }


def _if_there(name: str, params: CheckParams, load: Callable[[str], Model]) -> Model | None:
    """A check's model, or None when none is wanted, none is named or it is not there."""
    if params.policy == "keep":
        return None
    if not params.model:
        log.warning("%s: policy %s, but no model is named: not checked", name, params.policy)
        return None
    try:
        return load(params.model)
    except MissingModel as error:
        log.warning("%s: not checked: %s", name, error)
        return None


def check(checks: Checks, look: Look) -> Scores:
    """The confidences (0-1) that a frame is unsafe and that it shows a face, where checked."""
    scores: Scores = {}
    if checks.nsfw:
        scores["nsfw"] = checks.nsfw([look.picture])[0]
    if checks.faces:
        faces = checks.faces(np.asarray(look.picture, np.uint8))
        scores["face"] = faces[0].confidence if faces else 0.0
    return scores


def policy_fault(scores: Scores, params: PolicyParams) -> Fault | None:
    """Why the policy rejects a frame, or None."""
    for name, reason, one in (("nsfw", "nsfw", params.nsfw), ("face", "face", params.faces)):
        if one.policy == "reject" and scores.get(name, -1.0) >= one.threshold:
            return Fault(reason, scores[name], one.threshold)
    return None
