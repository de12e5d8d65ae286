"""CHAMPION names the version that production uses; it moves atomically, and back.

``adapters/<name>/CHAMPION`` is one line, replaced in one write. ``CHAMPIONS`` beside it is the
line of succession, oldest first, its last line the champion. It always holds at least what has
been in force: a new champion is written to it first, one that is taken back leaves it last. So a
crash between the two writes leaves CHAMPION true, and the next move drops what is not in force.
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
        _write_succession(store, name, [*line, version])
        store.write(f"adapters/{name}/CHAMPION", f"{version}\n".encode())
        log.info("champion of %s: %s", name, version)
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
    before = line[-2] if line[:-1] else ""
    place = f"adapters/{name}/CHAMPION"
    if before:
        store.write(place, f"{before}\n".encode())
    else:
        store.fs.rm(store.path(place))
    _write_succession(store, name, line[:-1])
    log.info("champion of %s: %s", name, before or "none")
    return before


def _succession(store: Store, name: str) -> list[str]:
    """The champions so far, ending with the one in force."""
    place = f"adapters/{name}/CHAMPIONS"
    line = store.read(place).decode().split() if store.exists(place) else []
    current = champion_of(store, name)
    if not current:
        return []
    if current not in line:  # CHAMPION was written by hand
        return [*line, current]
    return line[: len(line) - line[::-1].index(current)]


def _write_succession(store: Store, name: str, line: list[str]) -> None:
    text = "".join(f"{version}\n" for version in line)
    store.write(f"adapters/{name}/CHAMPIONS", text.encode())
