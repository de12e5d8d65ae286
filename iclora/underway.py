"""How far the sources in work are, of stages that take long: for who shows it, and nothing else.

Only of this process. What is worked on elsewhere is heard of when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import NamedTuple

Say = Callable[[float], None]
"""Is told the share of a part that is done, 0 to 1."""


class Part(NamedTuple):
    """A source that a stage is working on."""

    stage: str
    source: str
    """Its name as people know it: without the digest."""

    share: float = 0.0
    """What of it is done, 0 to 1."""


_now: dict[object, Part] = {}


@contextmanager
def underway(stage: str, source: str) -> Generator[Say]:
    """Shows a source as being worked on while the block runs; yields what is told how far it is.

    Args:
        stage: its name.
        source: name, with or without its digest.
    """
    key, part = object(), Part(stage, source.rpartition("@")[0] or source)

    def say(share: float) -> None:
        _now[key] = part._replace(share=min(1.0, max(0.0, share)))

    say(0.0)
    try:
        yield say
    finally:
        del _now[key]


def parts_underway() -> list[Part]:
    """The sources in work, those that were begun first first."""
    return list(_now.values())


def say_nothing(_share: float) -> None:
    """Tells nobody."""
