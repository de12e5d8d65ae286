"""How the models that compare or judge pictures see one: whole, resized to the model's square.

The published preparations resize the shorter side and crop the middle: half of a 1024 x 512 panel
is never seen. Of the ways to show all of it in one forward pass, distorting it keeps embeddings
most useful. Training crops of these models are distorted too, and never padded: bars make all
pictures of one aspect alike, the more the wider they are, so no threshold would fit two films.
Averaging square tiles costs a pass each and separates scenes hardly better. The figures are in
``docs/evaluation.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

if TYPE_CHECKING:
    import torch

VIEW: Final = "squash"
"""The rule, as open_clip and timm call it. It is recorded behind the revision of every such model,
so another rule recomputes what was measured."""


def whole_view(processor: Any) -> Callable[[Sequence[Image.Image]], torch.Tensor]:
    """Makes an image processor of transformers show whole pictures.

    Args:
        processor: Gives the model's size, the resampling and the scaling of values.

    Returns:
        A function from pictures of any size to pixels [n, 3, height, width].
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
