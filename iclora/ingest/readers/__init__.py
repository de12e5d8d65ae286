"""Registry of source kinds: each module in this package reads the sources of one kind.

The name of the module is the kind, and its ``READER`` is a ``Reader``. A new kind is a new module
(docs/write-a-source.md).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from iclora.errors import BadInput

if TYPE_CHECKING:
    from iclora.ingest.result import IngestContext, IngestResult


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reader of one kind of source.

    Attributes:
        read: Reads the source at a location into frames, with one verdict per item.
        matches: Recognizes the name of a file that is a source of this kind.
        matches_address: Recognizes a location that is no file or folder, such as a hub id.
        select: Selects the files of a folder that together are one source. A reader that selects
            every file claims the folder. Without it, each matching file is a source by itself.
        digest: Computes the content digest of a location and its selected files, given the folder
            for copies. By default, it is computed over the names and bytes of the files.
    """

    read: Callable[[IngestContext, str], IngestResult]
    matches: Callable[[str], bool] = lambda _: False
    matches_address: Callable[[str], bool] = lambda _: False
    select: Callable[[Sequence[str]], Sequence[str]] | None = None
    digest: Callable[[str, Sequence[str], Path], str] | None = None


@cache
def load_readers() -> dict[str, Reader]:
    """Imports all readers; returns them by kind."""
    kinds = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return {kind: importlib.import_module(f"{__name__}.{kind}").READER for kind in kinds}


def load_reader(kind: str) -> Reader:
    """Returns the reader of a kind.

    Raises:
        BadInput: This installation has no such reader.
    """
    if kind not in load_readers():
        known = ", ".join(load_readers())
        raise BadInput(f"there is no reader for sources of kind {kind!r}; known are {known}")
    return load_readers()[kind]


def kind_of_file(name: str) -> str | None:
    """Returns the kind of source that a file is by its name; None if no reader matches."""
    return next((kind for kind, reader in load_readers().items() if reader.matches(name)), None)


def separate_kind(name: str) -> str | None:
    """Returns the kind of a file that is a source by itself in any folder, such as a film."""
    kind = kind_of_file(name)
    return kind if kind and load_reader(kind).select is None else None
