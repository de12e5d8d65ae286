"""Upload of a dataset or adapter version to the Hugging Face hub, in one commit with its card."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from iclora.errors import UserError
from iclora.store import Store

Kind = Literal["dataset", "model"]

_LEFT_OUT = ("checkpoints/*", "*.tmp", ".*")
"""Patterns of files excluded from the upload: only a running training needs them."""


class PushRefused(UserError):
    """Error raised if the hub rejects an upload; the message explains the reason and the remedy."""


def push_folder(store: Store, folder: str, hub_id: str, kind: Kind) -> str:
    """Uploads a version's folder; deletes repository files that are not in the folder.

    Args:
        store: store of the folder.
        folder: folder relative to the store's root.
        hub_id: ``owner/name``; created as private if missing.
        kind: repository type on the hub.

    Returns:
        The commit's URL.

    Raises:
        PushRefused: no network, no token, no permission, or no such owner.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        with _local(store, folder) as files:
            api.create_repo(hub_id, repo_type=kind, private=True, exist_ok=True)
            commit = api.upload_folder(
                repo_id=hub_id,
                folder_path=files,
                repo_type=kind,
                commit_message=f"{folder} by iclora",
                ignore_patterns=list(_LEFT_OUT),
                delete_patterns="*",
            )
    except Exception as error:  # theirs depend on the HTTP library they are built on
        reason = str(error).strip().splitlines()[0]
        raise PushRefused(
            f"the hub did not take {hub_id}: {reason} (is there a network, and a token that may "
            "write? `hf auth login` stores one)"
        ) from error
    return str(commit.commit_url)


@contextmanager
def _local(store: Store, folder: str) -> Generator[Path]:
    """Yields the folder as local files, copied from an object store for the context's duration."""
    if store.is_local:
        yield Path(store.path(folder))
        return
    with tempfile.TemporaryDirectory(prefix="iclora-push-") as copy:
        for file in store.files(folder):
            store.copy(f"{folder}/{file}", Path(copy) / file)
        yield Path(copy)
