"""Adherence check: compares the text of each panel with all panels of the canvas."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iclora.captioning.caption_text import ROLE
from schemas.caption import Caption, CaptionFault


class CaptionEncoder(Protocol):
    """Encoder of images and texts into one space of unit vectors, one row per input."""

    def images(self, images: Sequence[Image.Image]) -> NDArray[np.float32]: ...  # noqa: D102 - see ClipEncoder
    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...  # noqa: D102 - see ClipEncoder


def misplaced(
    caption: Caption, panels: Sequence[bytes], encoder: CaptionEncoder
) -> list[CaptionFault]:
    """Finds the panels whose text matches another panel better, by CLIP cosine similarity.

    Role names carry no meaning for CLIP and are replaced by "someone". CLIP reads only the first 77
    tokens. Cosines are rounded to four decimals; a tie is not a fault.
    """
    images = encoder.images([Image.open(io.BytesIO(panel)) for panel in panels])
    texts = encoder.texts([ROLE.sub("someone", part) for part in caption.parts])
    # One row per part, one column per panel.
    cosines = np.round(texts.astype(np.float64) @ images.astype(np.float64).T, 4)
    faults: list[CaptionFault] = []
    for panel, row in enumerate(cosines):
        best = int(row.argmax())
        if row[best] > row[panel]:
            sentence = (
                f"What is said of panel {panel + 1} fits panel {best + 1} better "
                f"({row[best]:.4f} against {row[panel]:.4f})."
            )
            faults.append(CaptionFault(rule="misplaced", sentence=sentence, panel=panel + 1))
    return faults
