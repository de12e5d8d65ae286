"""Image classifier from transformers that returns the probability of unsafe content."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from iclora.errors import BadConfig
from iclora.models.loaded import cached_model
from iclora.models.locate import locate
from iclora.models.view import VIEW, whole_view

_UNSAFE = ("nsfw", "porn", "hentai", "sexy", "unsafe", "explicit")
"""Substrings of label names that mark unsafe content in published classifiers."""

_LOAD_LOCK = threading.Lock()


class SafetyClassifier:
    """Loaded safety classifier."""

    def __init__(self, name: str) -> None:
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        located = locate(name)
        self._prepare = whole_view(AutoImageProcessor.from_pretrained(located.folder))
        self._model: Any = AutoModelForImageClassification.from_pretrained(
            located.folder, use_safetensors=True
        ).eval()
        labels: dict[int, str] = self._model.config.id2label
        self._unsafe = [
            index
            for index, label in labels.items()
            if any(word in label.lower() for word in _UNSAFE)
        ]
        if not self._unsafe:
            raise BadConfig(f"{name} has no label that means nsfw: {', '.join(labels.values())}")

    def __call__(self, images: Sequence[Image.Image]) -> list[float]:
        """Returns the probability that each image is unsafe, rounded to four decimals."""
        return [self._probability(image) for image in images]

    def _probability(self, image: Image.Image) -> float:
        import torch

        pixels = self._prepare([image])
        with torch.inference_mode():
            shares = self._model(pixel_values=pixels).logits[0].float().softmax(-1)
        return round(float(shares[self._unsafe].sum()), 4)


def load_classifier(name: str) -> SafetyClassifier:
    """Loads the classifier of this folder or hub id, once per process.

    Raises:
        MissingModel: the weights are not on this machine.
        BadConfig: none of its labels means unsafe.
    """
    with _LOAD_LOCK:
        return _load(name)


def classifier_label(name: str) -> str:
    """Returns ``name@revision+view`` without loading the model.

    Raises:
        MissingModel: the weights are not on this machine.
    """
    located = locate(name)
    return f"{Path(name).name if Path(name).is_dir() else name}@{located.revision}+{VIEW}"


@cached_model(1)
def _load(name: str) -> SafetyClassifier:
    return SafetyClassifier(name)
