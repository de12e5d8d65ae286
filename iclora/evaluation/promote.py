"""CHAMPION names the version that production uses; it moves atomically, and back.

``adapters/<name>/CHAMPION`` is one line, replaced in one write. ``CHAMPIONS`` beside it is the
line of succession, oldest first, its last line the champion. It is written first: after a crash
between the two writes CHAMPION still tells the truth, and the next move drops what never came
into force.
"""

from __future__ import annotations

import logging

from iclora.errors import BadInput
from iclora.store import Store

log = logging.getLogger(__name__)


def champion_of(store: Store, name: str) -> str:
    """The champion's version, or an empty string."""
    place = f"adapters/{name}/CHAMPION"
    return store.read(place).decode().strip() if store.exists(place) else ""


def promote(store: Store, name: str, version: str) -> str:
    """Makes a version the champion; nothing changes if it already is.

    Returns:
        The champion's version.

    Raises:
        BadInput: the store has no such version.
    """
    if not store.exists(f"adapters/{name}/{version}/run.json"):
        raise BadInput(
            f"{store.address(f'adapters/{name}/{version}')} is not a finished adapter; "
            f"`iclora inspect` lists the versions of {name}"
        )
    line = _succession(store, name)
    if not line or line[-1] != version:
        _move(store, name, [*line, version])
    return version


def undo(store: Store, name: str) -> str:
    """Makes the champion before this one champion again.

    Returns:
        The champion's version now, or an empty string if the first was taken back.

    Raises:
        BadInput: there is no champion.
    """
    line = _succession(store, name)
    if not line:
        raise BadInput(f"{name} has no champion in {store.url}: nothing to undo")
    _move(store, name, line[:-1])
    return line[-2] if line[:-1] else ""


def _succession(store: Store, name: str) -> list[str]:
    """The champions so far, ending with the one in force."""
    place = f"adapters/{name}/CHAMPIONS"
    line = store.read(place).decode().split() if store.exists(place) else []
    current = champion_of(store, name)
    if not current:
        return []
    if current not in line:  # CHAMPION was written by hand or by an interrupted undo
        return [*line, current]
    return line[: len(line) - line[::-1].index(current)]


def _move(store: Store, name: str, line: list[str]) -> None:
    store.write(f"adapters/{name}/CHAMPIONS", "".join(f"{v}\n" for v in line).encode())
    place = f"adapters/{name}/CHAMPION"
    if line:
        store.write(place, f"{line[-1]}\n".encode())
    elif store.exists(place):
        store.fs.rm(store.path(place))
    log.info("champion of %s: %s", name, line[-1] if line else "none")
