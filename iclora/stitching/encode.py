"""Deterministic canvas encoding without metadata."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from iclora.stitching.geometry import Pixels
from schemas.stitch import StitchParams


def encode(canvas: Pixels, params: StitchParams) -> bytes:
    """Encodes a canvas [height, width, 3].

    JPEG uses 4:4:4 chroma so that no chroma block crosses a panel border. PNG and WebP are
    lossless.
    """
    options: dict[str, dict[str, Any]] = {
        "jpg": {"format": "JPEG", "quality": params.quality, "subsampling": 0},
        "png": {"format": "PNG", "compress_level": 6},
        "webp": {"format": "WEBP", "lossless": True, "quality": 75, "method": 4, "exact": True},
    }
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, **options[params.format])
    return buffer.getvalue()
