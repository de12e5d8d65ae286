"""Image processors of transformers show whole pictures, whatever they do by themselves."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from transformers import (
    BitImageProcessor,
    CLIPImageProcessor,
    ConvNextImageProcessor,
    PerceiverImageProcessor,
    TimmWrapperImageProcessor,
    ViTImageProcessor,
)

from iclora.models.view import whole_view

TIMM = {
    "input_size": (3, 32, 32),
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}
PROCESSORS = [
    BitImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}),
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    ConvNextImageProcessor(size={"shortest_edge": 32}),
    PerceiverImageProcessor(
        size={"height": 32, "width": 32}, crop_size={"height": 40, "width": 40}
    ),
    ViTImageProcessor(size={"height": 32, "width": 32}),
    TimmWrapperImageProcessor(TIMM),
]


@pytest.mark.parametrize("processor", PROCESSORS, ids=lambda found: type(found).__name__)
@pytest.mark.parametrize("size", [(128, 64), (64, 150), (64, 64)])
def test_every_edge_is_seen(processor, size):
    plain, (width, height) = Image.new("RGB", size), size
    pictures = [plain]
    for edge in ((0, 0, 4, height), (width - 4, 0, width, height)):
        pictures.append(plain.copy())
        pictures[-1].paste((255, 255, 255), edge)
    for edge in ((0, 0, width, 4), (0, height - 4, width, height)):
        pictures.append(plain.copy())
        pictures[-1].paste((255, 255, 255), edge)
    seen = whole_view(processor)(pictures)
    assert seen.shape == (5, 3, 32, 32)
    assert all(not torch.equal(seen[0], changed) for changed in seen[1:])


def test_values_are_scaled_as_the_processor_scales_them():
    processor = ViTImageProcessor(size={"height": 32, "width": 32})
    picture = Image.radial_gradient("L").resize((32, 32)).convert("RGB")
    theirs = processor(images=[picture], return_tensors="pt")["pixel_values"]
    assert torch.equal(whole_view(processor)([picture]), theirs)
