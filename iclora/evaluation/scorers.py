"""Scoring models: CLIP always, DINOv2 and the film world's reader if available.

A scorer that cannot be loaded, or fails on an image, leaves a missing value with its reason; values
are never imputed. CLIP is the only required scorer.
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
from iclora.models.locate import is_demo
from schemas.config import Config

log = logging.getLogger(__name__)

_DINO_BATCH = 16


class Scorer(Protocol):
    """Interface of all scoring models."""

    name: str
    """Name of the model, without local paths."""

    revision: str


class ImageEncoder(Scorer, Protocol):
    """Encoder of images to unit vectors."""

    def images(self, images: Sequence[Image.Image]) -> Any:
        """Embeds images as [n, d] unit rows."""
        ...


class ImageTextEncoder(ImageEncoder, Protocol):
    """Encoder of images and texts to unit vectors in a shared space."""

    def texts(self, texts: Sequence[str]) -> Any:
        """Embeds texts as [n, d] unit rows."""
        ...


class AttributeReader(Scorer, Protocol):
    """Reader of attributes from panels of the film world."""

    def read(self, images: Sequence[Image.Image]) -> Sequence[Mapping[str, str]]:
        """Reads attribute values, one mapping per image."""
        ...


def scorer_label(scorer: Scorer) -> str:
    """Returns ``name@revision``, as recorded in reports."""
    return f"{scorer.name}@{scorer.revision}"


class Scorers(NamedTuple):
    """Available scorers."""

    clip: ImageTextEncoder
    dino: ImageEncoder | None = None
    reader: AttributeReader | None = None
    absent: Mapping[str, str] = {}
    """Reason per role that has no scorer."""

    def labels(self) -> dict[str, str]:
        """Returns model and revision per role, or ``missing: reason``."""
        known = {"clip": self.clip, "dino": self.dino, "reader": self.reader}
        names = {role: scorer_label(scorer) for role, scorer in known.items() if scorer is not None}
        return {**names, **{role: f"missing: {why}" for role, why in self.absent.items()}}


def load_scorers(config: Config) -> Scorers:
    """Loads the scorers named in the configuration.

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
    """Loads the film world's attribute reader, which applies to no other content.

    Raises:
        MissingModel: its weights are not in the package.
        BadConfig: the base does not render the film world, or the reader is disabled.
    """
    from iclora.errors import BadConfig

    if config.evaluate.attribute_reader == "none":
        raise BadConfig("evaluate.attribute_reader is none")
    if not is_demo(config.base.model) and config.evaluate.attribute_reader == "auto":
        raise BadConfig("the base does not draw the film world, whose attributes are known")
    from iclora.miniature.reader import load_reader

    return load_reader()


class Dino:
    """DINOv2: image content without language (class token of the last layer)."""

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
        """Embeds images as [n, d] unit rows, in batches padded to a fixed size."""
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
    """Loads the DINOv2 of this name, once per process.

    Raises:
        MissingModel: the weights are not on this machine.
        BadConfig: the name is neither a folder nor a hub id.
    """
    return Dino(name)
