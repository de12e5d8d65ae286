"""Names for roles: random ones to give, famous ones to keep out."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from iclora.captioning.caption_text import word_set
from iclora.captioning.people import Kind
from iclora.errors import BadConfig
from schemas.captioning import CaptionParams

_FOLDER = Path(__file__).parent
_SEXES: dict[str, Kind] = {"m": "male", "f": "female", "-": "any"}
_TITLES = word_set("mr mrs ms miss dr sir lady lord king queen prince princess the")


class FirstName(NamedTuple):
    """A name and the sex it suggests."""

    name: str
    kind: Kind


def normalize(name: str) -> str:
    """A name for comparing: lower case, without titles and dots; a title alone stays."""
    words = name.lower().replace(".", " ").split()
    return " ".join([word for word in words if word not in _TITLES] or words)


@lru_cache
def first_names() -> tuple[FirstName, ...]:
    """The names that roles are given."""
    lines = _lines(_FOLDER / "first_names.txt")
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    return tuple(FirstName(name, _SEXES[sex]) for name, sex in pairs)


@lru_cache
def forbidden_names(path: str = "") -> frozenset[str]:
    """The names that must not be roles, in their plain form.

    Args:
        path: the user's own list, one name a line, added to the package's.

    Raises:
        BadConfig: the user's list cannot be read.
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


def names_for(key: str, params: CaptionParams) -> tuple[FirstName, ...]:
    """The names for roles in an order that looks random and depends only on the set's key."""
    forbidden = forbidden_names(params.forbidden_names)
    known = {name.name: name for name in first_names()}
    given = [known.get(name, FirstName(name, "any")) for name in params.names or known]
    allowed = [name for name in given if normalize(name.name) not in forbidden]
    return tuple(sorted(allowed, key=lambda name: _rank(key, name.name)))


def _rank(key: str, name: str) -> str:
    return hashlib.sha256(f"{key}/{name}".encode()).hexdigest()


def _lines(path: Path) -> list[str]:
    """The lines of a list that are neither empty nor comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
