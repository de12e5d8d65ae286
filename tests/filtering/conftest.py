"""Frame images made from bare luma."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from iclora.filtering.frame_image import FrameImage
from schemas.frame import Frame


@pytest.fixture(scope="session")
def image_of() -> Callable[..., FrameImage]:
    """Makes the image of a frame with this luma and mask, as ``load_frame_image`` would."""

    def make(luma: np.ndarray, masked: np.ndarray | None = None) -> FrameImage:
        height, width = luma.shape
        frame = Frame(
            id="f",
            source="s",
            file="f.png",
            content="c",
            width=width,
            height=height,
            crop=(0, 0, width, height),
        )
        mask = np.zeros(luma.shape, np.bool_) if masked is None else masked
        return FrameImage(frame, Image.fromarray(luma).convert("RGB"), luma, mask)

    return make
