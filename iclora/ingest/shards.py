"""WebDataset shards as a source."""

from __future__ import annotations


def is_pattern(location: str) -> bool:
    """Whether this names several shards (``x-{000000..000009}.tar``)."""
    return "{" in location and location.endswith((".tar", "}"))


def expand_shards(pattern: str) -> list[str]:
    """The shards a pattern names, in order."""
    from braceexpand import braceexpand

    return list(braceexpand(pattern))
