"""The demo's footage: short films with their licence beside them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from iclora.cpus import available_cpus
from iclora.miniature.film import render_film
from iclora.store import atomic_write

FILMS = 48

_SIDECAR = b"""title = "iclora miniature film world"
licence = "Apache-2.0"
"""


def render_demo(folder: Path) -> Path:
    """Renders the films that are not there yet, one process a core; the same on every machine.

    Args:
        folder: where they go; made if missing.

    Returns:
        The folder.
    """
    missing = [seed for seed in range(FILMS) if not film_of(folder, seed).exists()]
    many = available_cpus()
    parts = [part for n in range(many) if (part := missing[n::many])]
    command = [sys.executable, "-m", "iclora.miniature.demo", str(folder)]
    running = [subprocess.Popen([*command, *map(str, part)]) for part in parts[1:]]
    for seed in parts[0] if parts else ():
        render(folder, seed)
    for part, child in zip(parts[1:], running, strict=True):
        child.wait()
        for seed in part:  # what a child that was killed left undone
            render(folder, seed)
    return folder


def render(folder: Path, seed: int) -> None:
    """Renders one film and the sidecar with its licence, if it is not there."""
    film = film_of(folder, seed)
    if not film.exists():
        atomic_write(Path(f"{film}.toml"), _SIDECAR)
        render_film(seed, film)


def film_of(folder: Path, seed: int) -> Path:
    """Where a film lies."""
    return folder / f"film-{seed:02d}.mp4"


if __name__ == "__main__":
    for number in sys.argv[2:]:
        render(Path(sys.argv[1]), int(number))
