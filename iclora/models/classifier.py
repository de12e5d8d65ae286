"""Image classifier from transformers that returns the probability of unsafe content."""

from __future__ import annotations

from typing import Any

from PIL import Image

from iclora.errors import BadConfig
from iclora.models.loaded import cached_model
from iclora.models.locate import locate
from iclora.models.view import VIEW, whole_view

_UNSAFE = ("nsfw", "porn", "hentai", "sexy", "unsafe", "explicit")
"""Substrings of label names that mark unsafe content in published classifiers."""


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

    def __call__(self, image: Image.Image) -> float:
        """Returns the probability that an image is unsafe, rounded to four decimals."""
        import torch

        with torch.inference_mode():
            logits = self._model(pixel_values=self._prepare([image])).logits  # [1, labels]
        return round(float(logits[0].float().softmax(-1)[self._unsafe].sum()), 4)


@cached_model(1)
def load_classifier(name: str) -> SafetyClassifier:
    """Loads the classifier of this folder or hub id, once per process.

    Raises:
        MissingModel: the weights are not on this machine.
        BadConfig: none of its labels means unsafe.
    """
    return SafetyClassifier(name)


def classifier_label(name: str) -> str:
    """Returns ``name@revision+view`` without loading the model.

    Raises:
        MissingModel: the weights are not on this machine.
    """
    return f"{locate(name).label}+{VIEW}"
