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

    name: str
    """Name of the model, without local paths."""

    @property
    def label(self) -> str:
        """Name and revision, as recorded in manifests."""
        return f"{self.name}@{self.revision}"


def is_demo(model: str) -> bool:
    """Checks if a model's name or label is of the package's demo models (the miniature)."""
    return model.startswith(MINIATURE)


def cache_folder() -> Path:
    """Returns the folder for cached artifacts: ``ICLORA_CACHE`` or the user's cache folder."""
    if folder := os.environ.get("ICLORA_CACHE"):
        return Path(folder)
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
    if is_demo(name):
        return _locate_demo(name)
    if Path(name).is_dir():
        return Located(Path(name).resolve(), folder_digest(Path(name)), Path(name).name)
    if not _HUB_ID.fullmatch(name):
        raise BadConfig(f"{name!r} is neither a folder on this machine nor a hub id like org/name")
    folder = fetch_model(name, weights=weights, fetch=fetch)
    return Located(folder, folder.name, name)


def folder_digest(folder: Path) -> str:
    """Computes a digest of the names and contents of a model folder's files.

    File digests are cached by path, size, and modification time, so large weights are read once per
    machine.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder) for path in files]
    visible = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return digest_of([[name.as_posix(), file_digest(folder / name)] for name in visible])


def file_digest(path: Path) -> str:
    """Computes a file's sha256, cached until its size or modification time changes."""
    status = path.stat()
    key = digest_of([str(path.resolve()), status.st_size, status.st_mtime_ns])
    cached = cache_folder() / "digests" / key
    if cached.is_file():
        return cached.read_text(encoding="ascii")
    digest = file_sha256(path)
    atomic_write(cached, digest.encode())
    return digest


def _locate_demo(name: str) -> Located:
    part = name.removeprefix(MINIATURE)
    if part not in _PARTS:
        raise BadConfig(f"the miniature has {', '.join(_PARTS)}, not {part!r}")
    trained = _package() / "weights" / part
    if trained.is_dir():
        return Located(trained, folder_digest(trained), name)
    folder = _random_family() / part
    return Located(folder, f"random-{folder_digest(folder)}", name)


def _package() -> Path:
    import iclora.miniature

    return Path(iclora.miniature.__file__).parent


@lru_cache(maxsize=4)
def _warn_of_random_weights(folder: Path) -> None:
    log.warning("the miniature has no trained weights here: random weights in %s", folder)


def _random_family() -> Path:
    """Builds the random-weight family atomically, once per version of its recipe."""
    recipe = digest_of([file_sha256(path) for path in sorted(_package().glob("*.py"))])
    folder = cache_folder() / f"random-miniature-{recipe}"
    if not folder.is_dir():
        from iclora.miniature.family import build_random_family

        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            build_random_family(scratch)
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was quicker
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    _warn_of_random_weights(folder)
    return folder
