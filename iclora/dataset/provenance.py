"""Provenance: models that contributed to a dataset, and the preview rule.

The miniature models cover only the miniature's film world. A dataset is a preview if they chose its
sets or wrote its captions and any source is not of that world. A source is of that world if its
sidecar's title declares it (``FILM_WORLD``) or if the renderer's truth (``<stem>.truth.json``) lies
beside it. Rejected: detection from images, which would require another trusted model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import fsspec

from iclora.captioning.token_budget import counted_by
from iclora.errors import MissingModel
from iclora.filtering.safety import safety_labels
from iclora.models.face import face_label
from iclora.models.locate import is_demo
from schemas.config import Config
from schemas.dataset import NOT_CHECKED, BuildConfig
from schemas.source import Source

FILM_WORLD = "iclora miniature film world"
"""Sidecar ``title`` that marks a source as part of the miniature's film world."""


def models_of(
    config: BuildConfig, encoders: Iterable[str], captioners: Iterable[str]
) -> dict[str, str]:
    """Returns the models per role (``name@revision``), or ``not checked``.

    Args:
        config: source of the models of the optional checks and the tokenizer.
        encoders: CLIP models that scored the frames.
        captioners: captioners of the kept captions.

    Returns:
        ``clip``, ``captioner``, ``nsfw`` (unsafe images), ``faces`` (the policy), ``heads`` (kept
        whole by every crop), ``tokenizer`` (of the captions' budget).
    """
    checks = safety_labels(config.filter.safety)
    try:
        heads = face_label(config.stitch.face_model) if config.stitch.face_model else NOT_CHECKED
    except MissingModel:
        heads = NOT_CHECKED
    return {
        "clip": ", ".join(sorted(set(encoders))) or NOT_CHECKED,
        "captioner": ", ".join(sorted(set(captioners))) or NOT_CHECKED,
        "nsfw": checks["nsfw"],
        "faces": checks["faces"],
        "heads": heads,
        "tokenizer": counted_by(config.caption.tokenizer),
    }


def uses_miniature(config: Config) -> bool:
    """Checks if the configuration uses the miniature to choose sets or write captions."""
    captioner = config.caption.captioner
    writes = captioner.kind == "local" and is_demo(captioner.model)
    return writes or is_demo(config.filter.clip)


def is_of_film_world(source: Source) -> bool:
    """Checks if the miniature's renderer made a source; see the module docstring."""
    if source.rights.title == FILM_WORLD:
        return True
    if source.kind != "film":
        return False
    fs, path = fsspec.core.url_to_fs(source.url)
    return bool(fs.exists(f"{str(path).rpartition('.')[0]}.truth.json"))


def is_preview(models: Mapping[str, str], *, film_world: bool) -> bool:
    """Checks if a dataset is only a preview.

    Args:
        models: result of ``models_of``.
        film_world: every source is of the miniature's film world.
    """
    used = f"{models['clip']}, {models['captioner']}".split(", ")
    return not film_world and any(is_demo(name) for name in used)
