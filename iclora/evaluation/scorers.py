"""Who looks at the pictures: CLIP always, DINOv2 and the film world's reader where they are there.

A judge that cannot be loaded, or fails on a picture, leaves a missing value and its reason; no
number is ever made up for it. CLIP is the one judge without which there is no evaluation.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from iclora.errors import UserError
from iclora.evaluation.metrics import Array
from iclora.models.loaded import cached_model
from schemas.config import Config

log = logging.getLogger(__name__)

MINIATURE = "miniature/"
_DINO_BATCH = 16


class Scorer(Protocol):
    """Anyone who looks at pictures."""

    name: str
    """The model, without paths of this machine."""

    revision: str


class ImageEncoder(Scorer, Protocol):
    """Pictures to unit vectors."""

    def images(self, images: Sequence[Image.Image]) -> Any:
        """[n, d] unit rows."""
        ...


class ImageTextEncoder(ImageEncoder, Protocol):
    """Pictures and texts to unit vectors of one space."""

    def texts(self, texts: Sequence[str]) -> Any:
        """[n, d] unit rows."""
        ...


class AttributeReader(Scorer, Protocol):
    """Reads what is drawn on a panel of the film world."""

    def read(self, images: Sequence[Image.Image]) -> Sequence[Mapping[str, str]]:
        """Attribute to value, one mapping a picture."""
        ...


def scorer_label(scorer: Scorer) -> str:
    """``name@revision``: what reports record."""
    return f"{scorer.name}@{scorer.revision}"


class Scorers(NamedTuple):
    """Those that could be had."""

    clip: ImageTextEncoder
    dino: ImageEncoder | None = None
    reader: AttributeReader | None = None
    absent: Mapping[str, str] = {}
    """Role to the reason why nobody fills it."""

    def labels(self) -> dict[str, str]:
        """Role to model and revision, or to ``missing: reason``."""
        known = {"clip": self.clip, "dino": self.dino, "reader": self.reader}
        names = {role: scorer_label(scorer) for role, scorer in known.items() if scorer is not None}
        return {**names, **{role: f"missing: {why}" for role, why in self.absent.items()}}


def load_scorers(config: Config) -> Scorers:
    """Loads the judges that the configuration names.

    Raises:
        MissingModel: CLIP's weights are not on this machine.
    """
    from iclora.models.clip import load_clip

    absent: dict[str, str] = {}
    dino = reader = None
    try:
        dino = load_dino(config.evaluate.dino) if config.evaluate.dino else None
    except UserError as error:
        absent["dino"] = str(error)
    if not config.evaluate.dino:
        absent["dino"] = "evaluate.dino names none"
    try:
        reader = _load_reader(config)
    except UserError as error:
        absent["reader"] = str(error)
    for role, why in absent.items():
        log.warning("no %s: %s", role, why)
    return Scorers(load_clip(config.evaluate.clip), dino, reader, absent)


def _load_reader(config: Config) -> AttributeReader:
    """The film world's reader; on anything else it has nothing to read.

    Raises:
        MissingModel: its weights are not in the package.
        BadConfig: the base does not draw the film world, or no reader is wanted.
    """
    from iclora.errors import BadConfig

    if config.evaluate.attribute_reader == "none":
        raise BadConfig("evaluate.attribute_reader is none")
    if not config.base.model.startswith(MINIATURE) and config.evaluate.attribute_reader == "auto":
        raise BadConfig("the base does not draw the film world, whose attributes are known")
    from iclora.miniature.reader import load_reader

    return load_reader()


class Dino:
    """DINOv2: what a picture shows, without words (the class token of the last layer)."""

    def __init__(self, name: str) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModel

        from iclora.models.locate import locate
        from iclora.models.view import VIEW, whole_view

        found = locate(name)
        public = Path(name).name if Path(name).is_dir() else name
        self.name = public
        self.revision = f"{found.revision}+{VIEW}"
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model: Any = AutoModel.from_pretrained(found.folder, use_safetensors=True)
        self._model = model.eval().requires_grad_(False).to(self._device)
        self._prepare = whole_view(AutoImageProcessor.from_pretrained(found.folder))

    def images(self, images: Sequence[Image.Image]) -> Array:
        """[n, d] unit rows; batches are padded to one size, so company does not matter."""
        import torch

        rows: list[Array] = []
        for start in range(0, len(images), _DINO_BATCH):
            batch = images[start : start + _DINO_BATCH]
            pixels = self._prepare([*batch, *[batch[-1]] * (_DINO_BATCH - len(batch))])
            with torch.inference_mode():
                found = self._model(pixel_values=pixels.to(self._device)).last_hidden_state[:, 0]
            unit = torch.nn.functional.normalize(found.float(), dim=-1)
            rows.append(unit[: len(batch)].cpu().double().numpy())
        return np.concatenate(rows)


@cached_model(1)
def load_dino(name: str) -> Dino:
    """The DINOv2 of this name; loaded once per process.

    Raises:
        MissingModel: its weights are not on this machine.
        BadConfig: the name is neither a folder nor a hub id.
    """
    return Dino(name)
