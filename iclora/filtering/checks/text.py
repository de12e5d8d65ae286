"""Text: the share of a picture's edges that belong to lettering.

The measure is a share of *edges*, not of area. A title card with two words covers little area but
owns all edges, while a shot with a street sign does not; one number handles cards and rolling
credits alike.
"""

from __future__ import annotations

import cv2
import numpy as np

from iclora.filtering.checks import Limit, QualityCheck
from iclora.filtering.frame_image import FrameImage
from iclora.filtering.text_detection import mask_like

_EDGE = 60.0
"""Gradient magnitude of an edge (Sobel, 8-bit luma)."""


def text_share(image: FrameImage) -> float:
    """Computes the share (0-1) of a frame's edges that lie in lines of text, outside its masks."""
    picture, lines = image.text
    if not lines:
        return 0.0
    across, down = cv2.Sobel(picture, cv2.CV_32F, 1, 0), cv2.Sobel(picture, cv2.CV_32F, 0, 1)
    edges = across * across + down * down > _EDGE * _EDGE
    edges &= ~mask_like(picture, image.masked)
    total = int(edges.sum())
    if total == 0:
        return 0.0
    inside = np.zeros(picture.shape, np.bool_)
    for (x0, y0, x1, y1), _, _ in lines:
        inside[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = True
    return int((edges & inside).sum()) / total


CHECK = QualityCheck("text", text_share, (Limit("mostly_text", "max_text"),), order=4)
