"""Which models a dataset owes its content to, and whether that makes it a preview only.

The miniature models know the miniature's film world and nothing else. A dataset is a preview when
they chose its sets or wrote its captions and a source is not of that world. A source is of it when
its sidecar's title says so (``FILM_WORLD``) or when the renderer's truth (``<stem>.truth.json``)
lies beside it. Rejected: guessing from the pictures, which would be a third model to trust.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import fsspec

from iclora.captioning.token_budget import counted_by
from iclora.errors import MissingModel
from iclora.filtering.safety import safety_labels
from iclora.models.face import face_label
from iclora.models.locate import MINIATURE
from schemas.config import Config
from schemas.dataset import NOT_CHECKED
from schemas.source import Source

FILM_WORLD = "iclora miniature film world"
"""A sidecar's ``title`` that declares a source to be of the miniature's film world."""


def models_of(config: Config, encoders: Iterable[str], captioners: Iterable[str]) -> dict[str, str]:
    """Role to the models that filled it (``name@revision``), or ``not checked``.

    Args:
        config: names the models of the optional checks and the tokenizer.
        encoders: the CLIP models that scored the frames.
        captioners: who wrote the captions that were kept.

    Returns:
        ``clip``, ``captioner``, ``nsfw`` (unsafe pictures), ``faces`` (the policy), ``heads`` (that
        no crop may cut), ``tokenizer`` (of the captions' budget).
    """
    checks = safety_labels(config.filter.safety)
    return {
        "clip": ", ".join(sorted(set(encoders))) or NOT_CHECKED,
        "captioner": ", ".join(sorted(set(captioners))) or NOT_CHECKED,
        "nsfw": checks["nsfw"],
        "faces": checks["faces"],
        "heads": _head_finder(config.stitch.face_model),
        "tokenizer": counted_by(config.caption.tokenizer),
    }


def _head_finder(file: str) -> str:
    try:
        return face_label(file) if file else NOT_CHECKED
    except MissingModel:
        return NOT_CHECKED


def uses_miniature(config: Config) -> bool:
    """Whether the configuration lets the miniature choose sets or write captions."""
    captioner = config.caption.captioner
    writes = captioner.kind == "local" and captioner.model.startswith(MINIATURE)
    return writes or config.filter.clip.startswith(MINIATURE)


def is_of_film_world(source: Source) -> bool:
    """Whether a source was drawn by the miniature's renderer; see the module's rule."""
    if source.rights.title == FILM_WORLD:
        return True
    if source.kind != "film":
        return False
    fs, path = fsspec.core.url_to_fs(source.url)
    return bool(fs.exists(f"{str(path).rpartition('.')[0]}.truth.json"))


def is_preview(models: Mapping[str, str], sources: Sequence[Source]) -> bool:
    """Whether a dataset of these sources is only a preview.

    Args:
        models: what ``models_of`` says of the dataset.
        sources: those that were ingested.
    """
    used = f"{models['clip']}, {models['captioner']}".split(", ")
    return any(name.startswith(MINIATURE) for name in used) and not all_of_film_world(sources)


def all_of_film_world(sources: Iterable[Source]) -> bool:
    """Whether every source was drawn by the miniature's renderer."""
    return all(is_of_film_world(source) for source in sources)
