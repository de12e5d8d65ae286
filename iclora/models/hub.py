"""Models of the hub: what of a repository is wanted, and whether all of it is on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from iclora.errors import MissingModel

_BESIDE = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
"""Configurations and tokenizers; nothing that is run."""

_WEIGHTS = "*.safetensors"
"""Never pickled ones."""


def fetch_model(name: str, *, weights: bool, fetch: bool) -> Path:
    """The folder of a repository's snapshot in the hub cache.

    Args:
        name: hub id.
        weights: whether they are wanted, or only what is beside them.
        fetch: whether to ask the hub for what is not here.

    Raises:
        MissingModel: something is not here and cannot be fetched; the text holds the command
            that gets it.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    absent: list[str] = []
    for local in (True, False) if fetch else (True,):
        try:
            folder = _snapshot(name, weights=weights, local=local)
        except GatedRepoError as error:
            raise MissingModel(
                f"{name} is gated: accept its licence on the hub, run `hf auth login`, "
                f"then `{_command(name, weights=weights)}`"
            ) from error
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
            absent = absent or _absent_here(error, weights=weights)
            continue
        absent = list(_absent(folder)) if weights else []
        if not absent:
            return folder
    where = f"not whole on this machine ({', '.join(absent[:3])} missing)"
    raise MissingModel(
        f"{name} is {where if absent else 'not on this machine'}: "
        f"run `{_command(name, weights=weights)}` where there is a network"
    )


def _command(name: str, *, weights: bool) -> str:
    few = "" if weights else "".join(f' --include "{pattern}"' for pattern in _BESIDE[:3])
    return f"hf download {name}{few}"


def _snapshot(name: str, *, weights: bool, local: bool) -> Path:
    """First what is small: it says which weights belong to the model.

    A pipeline's repository often holds the same weights again in one file, which nobody reads here.
    """
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(name, allow_patterns=list(_BESIDE), local_files_only=local))
    if not weights:
        return folder
    wanted = [f"{part}/{_WEIGHTS}" for part in _parts(folder)] or [_WEIGHTS]
    wanted += _BESIDE
    return Path(snapshot_download(name, allow_patterns=wanted, local_files_only=local))


def _parts(folder: Path) -> list[str]:
    """The folders that a pipeline's index names; empty for a single model."""
    index = folder / "model_index.json"
    if not index.is_file():
        return []
    named = cast("dict[str, Any]", json.loads(index.read_text(encoding="utf-8")))
    return [
        key
        for key, value in named.items()
        if isinstance(value, list) and None not in cast("list[Any]", value)
    ]


def _absent(folder: Path) -> Iterator[str]:
    """What a whole model would have besides: the cache may hold a part, or an older client's."""
    places = [folder / part for part in _parts(folder)] or [folder]
    for place in places:
        known = [path.name for path in place.glob("*") if path.is_file()]
        within = f"{place.relative_to(folder).as_posix()}/".removeprefix("./")
        if not known:
            yield within
        weightless = place != folder and "config.json" not in known
        if not weightless and not any(place.rglob(_WEIGHTS)):
            yield f"{within}{_WEIGHTS}"
        for index in place.glob(f"{_WEIGHTS}.index.json"):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            yield from (f"{within}{shard}" for shard in sorted(shards - set(known)))


def _absent_here(error: Exception, *, weights: bool) -> list[str]:
    """What an incomplete snapshot lacks, as far as its own files say."""
    from huggingface_hub.errors import IncompleteSnapshotError

    if not weights or not isinstance(error, IncompleteSnapshotError):
        return []
    return list(_absent(Path(error.snapshot_path)))
