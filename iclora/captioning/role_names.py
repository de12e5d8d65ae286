"""Role names: first names to assign and well-known names to forbid."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from iclora.captioning.caption_text import word_set
from iclora.captioning.people import Kind
from iclora.errors import BadConfig
from schemas.captioning import CaptionParams

_FOLDER = Path(__file__).parent
_SEXES: dict[str, Kind] = {"m": "male", "f": "female", "-": "any"}
_TITLES = word_set("mr mrs ms miss dr sir lady lord king queen prince princess the")


def normalize(name: str) -> str:
    """Normalizes a name for comparison: lowercase, without titles unless it is a title only."""
    words = name.lower().replace(".", " ").split()
    return " ".join([word for word in words if word not in _TITLES] or words)


@lru_cache
def first_names() -> dict[str, Kind]:
    """Returns the first names available for roles, with the sex that each implies."""
    pairs = [line.rsplit(maxsplit=1) for line in _lines(_FOLDER / "first_names.txt")]
    return {name: _SEXES[sex] for name, sex in pairs}


@lru_cache
def forbidden_names(path: str = "") -> frozenset[str]:
    """Returns the normalized names that roles must not have.

    Args:
        path: The user's own list, one name per line, in addition to the built-in list.

    Raises:
        BadConfig: The user's list cannot be read.
    """
    own: list[str] = []
    if path:
        try:
            own = _lines(Path(path))
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfig(
                f"caption.forbidden_names: {path} cannot be read as a UTF-8 text: {error}"
            ) from error
    return frozenset(normalize(name) for name in (*_lines(_FOLDER / "film_names.txt"), *own))


def names_for(key: str, params: CaptionParams) -> dict[str, Kind]:
    """Returns role names in a pseudo-random order that depends only on the set's key.

    Each name comes with the sex that it implies; ``any`` for names of the user.
    """
    kinds, forbidden = first_names(), forbidden_names(params.forbidden_names)
    names = [name for name in params.names or kinds if normalize(name) not in forbidden]
    names.sort(key=lambda name: hashlib.sha256(f"{key}/{name}".encode()).hexdigest())
    return {name: kinds.get(name, "any") for name in names}


def _lines(path: Path) -> list[str]:
    """Reads the non-empty lines of a list, without comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
