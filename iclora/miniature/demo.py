"""Footage of the demo: short films, each with a sidecar file that states its license."""

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
    """Renders the missing films with one process per core; equal bytes on every machine.

    Args:
        folder: Folder of the films; created if missing.

    Returns:
        The folder.
    """
    missing = [seed for seed in range(FILMS) if not film_of(folder, seed).exists()]
    workers = available_cpus()
    parts = [part for n in range(workers) if (part := missing[n::workers])]
    command = [sys.executable, "-m", "iclora.miniature.demo", str(folder)]
    children = [subprocess.Popen([*command, *map(str, part)]) for part in parts[1:]]
    for seed in parts[0] if parts else ():
        render(folder, seed)
    for part, child in zip(parts[1:], children, strict=True):
        child.wait()
        for seed in part:  # films that a killed child did not render
            render(folder, seed)
    return folder


def render(folder: Path, seed: int) -> None:
    """Renders one film and its sidecar, unless the film exists."""
    film = film_of(folder, seed)
    if not film.exists():
        atomic_write(Path(f"{film}.toml"), _SIDECAR)
        render_film(seed, film)


def film_of(folder: Path, seed: int) -> Path:
    """Returns the path of a film."""
    return folder / f"film-{seed:02d}.mp4"


if __name__ == "__main__":
    for number in sys.argv[2:]:
        render(Path(sys.argv[1]), int(number))
