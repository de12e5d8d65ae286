"""Pictures inside artifacts."""

from __future__ import annotations

import base64
import io

from PIL import Image

LONGEST_SIDE = 640
"""Of a picture inside an artifact, in pixels: artifacts live in the server's database."""


def data_uri(picture: bytes) -> str:
    """A picture as a small JPEG data URI, which the UI shows without any other server."""
    with Image.open(io.BytesIO(picture)) as opened:
        small = opened.convert("RGB")
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
