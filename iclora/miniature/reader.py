"""Attribute classifier for panels of the film world: a small CNN with a head per attribute.

Used by the evaluation only; a build never uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from iclora.errors import MissingModel
from iclora.miniature.draw import PANEL
from iclora.miniature.world import VALUES
from iclora.store import file_sha256

WEIGHTS = "model.safetensors"
_FOLDER = Path(__file__).parent / "weights" / "reader"
_BATCH = 64
"""Pictures per forward pass; the last one is padded, so batching does not change an answer."""

_REVISION_LENGTH = 16
_WIDTHS = (24, 48, 96, 128)


class ReaderNet(nn.Module):
    """CNN from pictures ``[B, 3, 64, 64]`` in -1..1 to one row of scores per attribute."""

    def __init__(self) -> None:
        super().__init__()
        one, two, three, four = _WIDTHS
        self.features = nn.Sequential(
            *_stage(3, one, stride=2),
            *_stage(one, two, stride=2),
            *_stage(two, three, stride=2),
            *_stage(three, four, stride=1),
            *_stage(four, four, stride=2),
        )
        cells = (PANEL // 16) ** 2
        self.head = nn.Linear(four * cells, sum(len(values) for values in VALUES.values()))

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Returns the scores ``[B, values]`` of each attribute, in the order of ``VALUES``."""
        scores = self.head(self.features(pictures).flatten(1))
        return scores.split([len(values) for values in VALUES.values()], dim=-1)


def _stage(inputs: int, outputs: int, *, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


class WorldReader:
    """Loaded attribute classifier.

    Attributes:
        name: Name in reports.
        revision: Digest of its weights.
    """

    def __init__(self, folder: Path) -> None:
        self.name = "miniature/reader"
        self.revision = file_sha256(folder / WEIGHTS)[:_REVISION_LENGTH]
        self._net = ReaderNet().eval().requires_grad_(requires_grad=False)
        self._net.load_state_dict(load_file(folder / WEIGHTS))

    @property
    def label(self) -> str:
        """Name and revision, as recorded in reports."""
        return f"{self.name}@{self.revision}"

    def read(self, images: Sequence[Image.Image]) -> list[dict[str, str]]:
        """Returns the value of every attribute of ``VALUES`` for each picture.

        Pictures are cropped to their central square.
        """
        attributes: list[dict[str, str]] = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            pixels = np.stack([np.asarray(panel_of(image)) for image in batch])
            padded = np.concatenate([pixels, *[pixels[-1:]] * (_BATCH - len(batch))])
            with torch.inference_mode():
                scores = self._net(as_input(padded))
            choices = torch.stack([score.argmax(dim=-1) for score in scores], dim=-1)
            for row in choices[: len(batch)].tolist():
                pairs = zip(VALUES.items(), row, strict=True)
                attributes.append({name: values[index] for (name, values), index in pairs})
        return attributes


def load_reader(folder: Path = _FOLDER) -> WorldReader:
    """Loads the reader of the package or of a folder that the recipe wrote.

    Raises:
        MissingModel: The folder has no weights.
    """
    if not (folder / WEIGHTS).is_file():
        raise MissingModel(
            "the miniature's reader has no weights here: run `python -m recipes.reader OUT`"
        )
    return WorldReader(folder)


def save_reader(net: ReaderNet, folder: Path) -> None:
    """Writes the weights in bfloat16; counters of the batch norms keep their dtype."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.to(torch.bfloat16) if value.is_floating_point() else value
        for name, value in net.state_dict().items()
    }
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def panel_of(picture: Image.Image, side: int = PANEL) -> Image.Image:
    """Crops a picture to its central square, RGB, and resizes it to ``side`` pixels."""
    cut = min(picture.size)
    left, top = (picture.width - cut) // 2, (picture.height - cut) // 2
    square = picture.convert("RGB").crop((left, top, left + cut, top + cut))
    return square.resize((side, side), Image.Resampling.BICUBIC)


def as_input(pixels: NDArray[np.uint8]) -> Tensor:
    """Converts pixels ``[..., H, W, 3]`` in 0..255 to ``[..., 3, H, W]`` in -1..1."""
    return torch.from_numpy(pixels).movedim(-1, -3).float() / 127.5 - 1
