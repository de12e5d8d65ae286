"""Image preprocessing for encoders and classifiers: the whole image, resized to a square.

The published preprocessing resizes the shorter side and crops the center, which discards half of a
1024 x 512 panel. Of the ways to show the whole image in one forward pass, distortion keeps
embeddings most useful: these models' training crops are distorted too, and never padded. Padding
makes all images of one aspect ratio similar, more so with wider bars, so no threshold would fit two
films. Averaging square tiles costs one pass per tile and separates scenes hardly better. The
figures are in ``docs/evaluation.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

if TYPE_CHECKING:
    import torch

VIEW: Final = "squash"
"""Name of the view in open_clip and timm. It is part of every such model's revision, so changing
the view invalidates earlier measurements."""


def whole_view(processor: Any) -> Callable[[Sequence[Image.Image]], torch.Tensor]:
    """Makes a transformers image processor resize whole images.

    Args:
        processor: source of the input size, the resampling, and the value scaling.

    Returns:
        A function from images of any size to pixels [n, 3, height, width].
    """
    from transformers import TimmWrapperImageProcessor

    if isinstance(processor, TimmWrapperImageProcessor):  # takes no options of a call
        shown = {**processor.data_config, "crop_mode": VIEW, "crop_pct": 1.0}
        timm = TimmWrapperImageProcessor(shown)
        return lambda images: timm([image.convert("RGB") for image in images])["pixel_values"]

    probe = processor(images=[Image.new("RGB", (64, 64))], return_tensors="pt")["pixel_values"]
    height, width = probe.shape[-2:]
    resample = Image.Resampling(int(processor.resample))

    def prepare(images: Sequence[Image.Image]) -> torch.Tensor:
        # Resized here, because some processors crop within their own resizing.
        whole = [image.convert("RGB").resize((width, height), resample) for image in images]
        prepared = processor(
            images=whole, do_resize=False, do_center_crop=False, return_tensors="pt"
        )
        return prepared["pixel_values"]

    return prepare
