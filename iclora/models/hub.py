"""Download of hub models: selection of the required files and completeness checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from iclora.errors import MissingModel

_CONFIGS = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
"""Patterns of configurations and tokenizers; no executable code."""

_WEIGHTS = "*.safetensors"
"""Pattern of weight files; pickled weights are excluded."""


def fetch_model(name: str, *, weights: bool, fetch: bool) -> Path:
    """Returns the folder of a repository's snapshot in the hub cache.

    Args:
        name: hub id.
        weights: true for the weights too, false for the other files only.
        fetch: downloads missing files from the hub.

    Raises:
        MissingModel: a file is missing and cannot be downloaded; the message holds the command that
            downloads it.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return _snapshot(name, weights=weights, local=True)
    except LocalEntryNotFoundError as error:
        if not fetch:
            raise MissingModel(_sentence(name, error, weights=weights)) from error
    try:
        return _snapshot(name, weights=weights, local=False)
    except GatedRepoError as error:
        raise MissingModel(
            f"{name} is gated: accept its licence on the hub, run `hf auth login`, "
            f"then `{_command(name, weights=weights)}`"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise MissingModel(_sentence(name, error, weights=weights)) from error


def _sentence(name: str, error: Exception, *, weights: bool) -> str:
    from huggingface_hub.errors import IncompleteSnapshotError

    part = Path(error.snapshot_path) if isinstance(error, IncompleteSnapshotError) else None
    absent = ", ".join(list(_absent(part))[:3]) if part and weights else ""
    state = f"not whole on this machine ({absent} missing)" if absent else "not on this machine"
    command = _command(name, weights=weights)
    return f"{name} is {state}: run `{command}` where there is a network"


def _command(name: str, *, weights: bool) -> str:
    few = "" if weights else "".join(f' --include "{pattern}"' for pattern in _CONFIGS[:3])
    return f"hf download {name}{few}"


def _snapshot(name: str, *, weights: bool, local: bool) -> Path:
    """Downloads the small files first, which name the weights that belong to the model.

    A pipeline's repository often holds the same weights again in one file, which is not used here.

    Raises:
        LocalEntryNotFoundError: the local copy is incomplete.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError

    folder = Path(snapshot_download(name, allow_patterns=list(_CONFIGS), local_files_only=local))
    if not weights:
        return folder
    wanted = [f"{part}/{_WEIGHTS}" for part in _parts(folder)] or [_WEIGHTS]
    wanted += _CONFIGS
    folder = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=local))
    if any(_absent(folder)):
        raise IncompleteSnapshotError(f"{folder} is a part of {name}", str(folder))
    return folder


def _parts(folder: Path) -> list[str]:
    """Returns the folders named in a pipeline's index; empty for a single model."""
    index = folder / "model_index.json"
    if not index.is_file():
        return []
    parts = cast("dict[str, Any]", json.loads(index.read_text(encoding="utf-8")))
    return [
        name
        for name, value in parts.items()
        if isinstance(value, list) and None not in cast("list[Any]", value)
    ]


def _absent(folder: Path) -> Iterator[str]:
    """Lists files missing from a partial snapshot or one of an older hub client."""
    for part in [folder / name for name in _parts(folder)] or [folder]:
        names = [path.name for path in part.glob("*") if path.is_file()]
        prefix = f"{part.relative_to(folder).as_posix()}/".removeprefix("./")
        if not names:
            yield prefix
        weightless = part != folder and "config.json" not in names
        if not weightless and not any(part.rglob(_WEIGHTS)):
            yield f"{prefix}{_WEIGHTS}"
        for index in part.glob(f"{_WEIGHTS}.index.json"):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            yield from (f"{prefix}{shard}" for shard in sorted(shards - set(names)))
