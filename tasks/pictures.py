"""Pictures inside artifacts."""

from __future__ import annotations

import base64
import io

WIDTH, HEIGHT = 640, 960
"""Maximum size of a picture in pixels: artifacts live in the server's database."""


def data_uri(picture: bytes) -> str:
    """A picture as a small JPEG data URI, which the UI shows without any other server.

    A sheet that is much higher than wide shows its beginning: as a whole it could not be read.
    """
    from PIL import Image  # late: a flow is imported sooner

    with Image.open(io.BytesIO(picture)) as opened:
        small = opened.convert("RGB")
    small.thumbnail((WIDTH, small.height))
    small = small.crop((0, 0, small.width, min(small.height, HEIGHT)))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
