"""A dataset or adapter version to the Hugging Face hub, in one commit with its card."""

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
"""What only a running training needs."""


class PushRefused(UserError):
    """The hub did not take it; the text says why and what to do."""


def push_folder(store: Store, folder: str, hub_id: str, kind: Kind) -> str:
    """Uploads a version's folder; what is in the repository and not in the folder goes.

    Args:
        store: where the folder is.
        folder: below the store's root.
        hub_id: ``owner/name``; made (private) if it is not there.
        kind: what it is on the hub.

    Returns:
        The commit's URL.

    Raises:
        PushRefused: no network, no token, no right, or no such owner.
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
        why = str(error).strip().splitlines()[0]
        raise PushRefused(
            f"the hub did not take {hub_id}: {why} (is there a network, and a token that may "
            "write? `hf auth login` stores one)"
        ) from error
    return str(commit.commit_url)


@contextmanager
def _local(store: Store, folder: str) -> Generator[Path]:
    """The folder as local files; copied from an object store for the length of the block."""
    if store.is_local:
        yield Path(store.path(folder))
        return
    with tempfile.TemporaryDirectory(prefix="iclora-push-") as copy:
        for file in store.files(folder):
            store.copy(f"{folder}/{file}", Path(copy) / file)
        yield Path(copy)
