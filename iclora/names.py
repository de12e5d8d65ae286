"""Names of datasets and adapters."""

from __future__ import annotations

import re

from iclora.errors import BadConfig

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")


def check_name(name: str, owner: str) -> None:
    """Refuses a name that cannot be a folder, a URL and a tar member alike.

    Args:
        name: name to check.
        owner: kind of artifact for the message, such as "a dataset".

    Raises:
        BadConfig: the name has other characters or is too long.
    """
    if not _NAME.fullmatch(name):
        raise BadConfig(
            f"{name!r} cannot be {owner}'s name: use up to 80 of a-z, 0-9, - and _, "
            "a letter or digit first (--name)"
        )
