"""Sources of a build that share a task run, so that orchestration costs what short films can bear.

A task run costs Prefect tens of milliseconds whatever it does, and a source takes six of them: that
is nothing beside a long film, and a tenth of the time of hundreds of short ones. So small
sources go in parcels, and a task works on those of its parcel one after another. What is done is
decided by the store as ever: a parcel that is tried again finds the sources that it finished.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from schemas.job import Parcel
from schemas.source import Source

log = logging.getLogger("iclora.parcels")

Item = TypeVar("Item")
Made = TypeVar("Made")

MOST_SOURCES = 16
"""In a parcel. Its six task runs take a fifth of a second, less than two hundredths of sixteen
films of a second each; more sources would save little and let progress jump."""

MOST_BYTES = 128 << 20
"""Of all sources of a parcel. About two minutes of 1080p, which keep a core busy for half a minute:
beside that six task runs are little already, and so is what is lost with a machine."""

FEW = 8
"""Up to so many sources a core, each has task runs of its own: those take seconds then, and whoever
watches a small build sees every film."""

SHARES = 2
"""A core's equal part of the sources that are left makes so many parcels. So parcels become smaller
towards the end, the last are single sources, and no core waits long for another's last parcel."""


def into_parcels(
    sources: Sequence[Source], sizes: Sequence[int | None], cores: int
) -> tuple[Parcel, ...]:
    """Divides the sources of a build among parcels, in order.

    Args:
        sources: in the order of the build.
        sizes: their bytes; None is unknown, and such a source stands alone.
        cores: how many task runs go on at a time.
    """
    parcels: list[Parcel] = []
    begin, few = 0, len(sources) <= FEW * cores
    while left := len(sources) - begin:
        most = 1 if few else max(1, min(MOST_SOURCES, left // (SHARES * cores)))
        end = begin + _fitting(sizes[begin : begin + most])
        parcels.append(Parcel(sources=tuple(sources[begin:end])))
        begin = end
    return tuple(parcels)


def each(names: Sequence[str], work: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """Works source by source; one that fails does not take the others of its parcel along.

    Args:
        names: the sources'.
        work: on one source.
        items: what it is given, one a source.

    Raises:
        Exception: the first, when all sources were tried; the log has every one.
    """
    made: list[Made] = []
    errors: list[Exception] = []
    for name, item in zip(names, items, strict=True):
        try:
            made.append(work(item))
        except Exception as error:  # whatever it is, it is raised once the others were tried
            if len(names) == 1:
                raise
            log.exception("%s failed", name)
            errors.append(error)
    if errors:
        raise errors[0]
    return made


def unpack(parcels: Iterable[Sequence[Made]]) -> list[Made]:
    """What was made of every source, in order, of what was made of every parcel."""
    return [made for parcel in parcels for made in parcel]


def _fitting(sizes: Sequence[int | None]) -> int:
    """How many of these sources, from the first, a parcel has room for: one at least."""
    room = MOST_BYTES
    for count, size in enumerate(sizes):
        room -= MOST_BYTES + 1 if size is None else size
        if room < 0:
            return max(1, count)
    return len(sizes)
