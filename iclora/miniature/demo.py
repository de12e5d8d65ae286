"""The demo's footage: three dozen short films with their licence beside them."""

from __future__ import annotations

from pathlib import Path

from iclora.miniature.film import render_film
from iclora.store import write_whole

FILMS = 36

_SIDECAR = b"""title = "iclora miniature film world"
licence = "Apache-2.0"
"""


def render_demo(folder: Path) -> Path:
    """Renders the films that are not there yet; the same films on every machine.

    Args:
        folder: where they go; made if missing.

    Returns:
        The folder.
    """
    for seed in range(FILMS):
        film = folder / f"film-{seed:02d}.mp4"
        if not film.exists():
            write_whole(Path(f"{film}.toml"), _SIDECAR)
            render_film(seed, film)
    return folder
