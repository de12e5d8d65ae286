"""Resolution of model names to a local folder and a revision.

Names are of three kinds: a local folder; a hub id (``org/name``), looked up in the local hub cache
first so that a build works offline and stays on one revision; or ``miniature/<part>``, the small
family in the package, or one with random weights until it is trained. Pickled weights are never
downloaded or loaded.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from iclora.errors import BadConfig
from iclora.models.hub import fetch_model
from iclora.store import atomic_write, file_sha256
from schemas.base import digest_of

log = logging.getLogger(__name__)

MINIATURE = "miniature/"
_PARTS = ("clip", "vlm", "flux")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class Located(NamedTuple):
    """Model on this machine."""

    folder: Path
    """Folder of the model files."""

    revision: str
    """Hub commit or digest of the files; prefixed with ``random-`` for random weights."""


def cache_folder() -> Path:
    """Returns the folder for cached artifacts: ``ICLORA_CACHE`` or the user's cache folder."""
    if given := os.environ.get("ICLORA_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "iclora"


def locate(name: str, *, weights: bool = True, fetch: bool = True) -> Located:
    """Finds a model's files.

    Args:
        name: a local folder, a hub id, or ``miniature/clip``, ``miniature/vlm``,
            ``miniature/flux``.
        weights: false if the tokenizer or configuration is enough, to skip downloading weights.
        fetch: downloads missing files from the hub.

    Raises:
        MissingModel: the weights are not on this machine; the message holds the command that
            downloads them.
        BadConfig: the name is neither a folder nor a hub id nor a part of the miniature.
    """
    if name.startswith(MINIATURE):
        return _miniature(name.removeprefix(MINIATURE))
    if Path(name).is_dir():
        return Located(Path(name).resolve(), folder_digest(Path(name)))
    if not _HUB_ID.fullmatch(name):
        raise BadConfig(f"{name!r} is neither a folder on this machine nor a hub id like org/name")
    folder = fetch_model(name, weights=weights, fetch=fetch)
    return Located(folder, folder.name)


def folder_digest(folder: Path) -> str:
    """Computes a digest of the names and contents of a model folder's files.

    File digests are cached by path, size, and modification time, so large weights are read once per
    machine.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    visible = [path for path in files if not _hidden(path.relative_to(folder))]
    return digest_of([[path.relative_to(folder).as_posix(), file_digest(path)] for path in visible])


def file_digest(path: Path) -> str:
    """Computes a file's sha256, cached until its size or modification time changes."""
    facts = path.stat()
    key = digest_of([str(path.resolve()), facts.st_size, facts.st_mtime_ns])
    note = cache_folder() / "digests" / key
    if note.is_file():
        return note.read_text(encoding="ascii")
    digest = file_sha256(path)
    atomic_write(note, digest.encode())
    return digest


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _miniature(part: str) -> Located:
    if part not in _PARTS:
        raise BadConfig(f"the miniature has {', '.join(_PARTS)}, not {part!r}")
    trained = _package() / "weights" / part
    if trained.is_dir():
        return Located(trained, folder_digest(trained))
    folder = _random_family() / part
    return Located(folder, f"random-{folder_digest(folder)}")


def _package() -> Path:
    import iclora.miniature

    return Path(iclora.miniature.__file__).parent


def _random_family() -> Path:
    """Builds the random-weight family, once per version of its recipe."""
    code = sorted(_package().glob("*.py"))
    recipe = digest_of([file_sha256(path) for path in code])
    place = cache_folder() / f"random-miniature-{recipe}"
    if not place.is_dir():
        _build_atomically(place)
    _warn_once(place)
    return place


@lru_cache(maxsize=4)
def _warn_once(place: Path) -> None:
    log.warning("the miniature has no trained weights here: random weights in %s", place)


def _build_atomically(place: Path) -> None:
    from iclora.miniature.family import build_random_family

    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        build_random_family(scratch)
        scratch.rename(place)
    except OSError:
        if not place.is_dir():  # otherwise another process was quicker
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
