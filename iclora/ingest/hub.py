"""Hugging Face datasets as sources: a folder, a table file, or a hub id; rows are streamed."""

from __future__ import annotations

import re

from iclora.errors import BadInput
from schemas.base import digest_of

_HUB_ID = re.compile(r"^(hf://datasets/)?([\w.-]+/[\w.-]+)(@[\w./-]+)?$")


def is_hub_id(location: str) -> bool:
    """Whether this reads ``owner/name``, ``owner/name@revision`` or ``hf://datasets/owner/name``."""
    return bool(_HUB_ID.match(location))


def split_hub_id(location: str) -> tuple[str, str | None]:
    """The id and the revision, None for the newest."""
    found = _HUB_ID.match(location)
    assert found, f"{location} is not a hub id"
    return found.group(2), (found.group(3) or "")[1:] or None


def hub_revision(location: str) -> str:
    """The digest of a hub dataset: of its id and the commit its revision stands for.

    Raises:
        BadInput: there is no such dataset, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    name, revision = split_hub_id(location)
    try:
        commit = HfApi().dataset_info(name, revision=revision, timeout=30).sha
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise BadInput(
            f"{location} is neither here nor a dataset that the hub gives out: {error}"
        ) from error
    return digest_of([name, commit])
