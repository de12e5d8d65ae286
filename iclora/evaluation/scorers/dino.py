"""Consistency by DINOv2, which sees image content without language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from iclora.errors import BadConfig
from iclora.evaluation.metrics import Array, consistency
from iclora.evaluation.scorers import ScoreInfo
from iclora.models.loaded import cached_model
from schemas.caption import Caption
from schemas.config import BaseParams
from schemas.evaluation import EvaluateParams

_BATCH = 16


class Dino:
    """Scorer that embeds panels by the class token of DINOv2's last layer."""

    infos: Mapping[str, ScoreInfo] = {
        "consistency_dino": ScoreInfo(
            "Consistency (DINOv2)", "the same, by an encoder without words"
        )
    }
    on_shuffled = False

    def __init__(self, name: str) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModel

        from iclora.models.locate import locate
        from iclora.models.view import VIEW, whole_view

        located = locate(name)
        self.name = Path(name).name if Path(name).is_dir() else name
        self.revision = f"{located.revision}+{VIEW}"
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model: Any = AutoModel.from_pretrained(located.folder, use_safetensors=True)
        self._model = model.eval().requires_grad_(False).to(self._device)
        self._prepare = whole_view(AutoImageProcessor.from_pretrained(located.folder))

    def measure(self, panels: Sequence[Image.Image]) -> Array:
        """Embeds panels as [n, D] unit rows, in batches padded to a fixed size."""
        import torch

        rows: list[Array] = []
        for start in range(0, len(panels), _BATCH):
            batch = panels[start : start + _BATCH]
            pixels = self._prepare([*batch, *[batch[-1]] * (_BATCH - len(batch))])
            with torch.inference_mode():
                # [B, T, D] -> [B, D]
                tokens = self._model(pixel_values=pixels.to(self._device)).last_hidden_state[:, 0]
            unit = torch.nn.functional.normalize(tokens.float(), dim=-1)
            rows.append(unit[: len(batch)].cpu().double().numpy())
        return np.concatenate(rows)

    def scores(self, measured: Array, captions: Sequence[Caption]) -> dict[str, Array]:  # noqa: ARG002 - Scorer's
        """Computes the mean cosine between the panels of each set."""
        return {"consistency_dino": consistency(measured)}


@cached_model(1)
def load_dino(name: str) -> Dino:
    """Loads the DINOv2 of this name, once per process.

    Raises:
        MissingModel: the weights are not on this machine.
        BadConfig: the name is neither a folder nor a hub id.
    """
    return Dino(name)


def load_scorer(params: EvaluateParams, base: BaseParams) -> Dino:  # noqa: ARG001 - every scorer's signature
    """Loads the DINOv2 that ``evaluate.dino`` names.

    Raises:
        BadConfig: it names none.
        MissingModel: the weights are not on this machine.
    """
    if not params.dino:
        raise BadConfig("evaluate.dino names none")
    return load_dino(params.dino)
