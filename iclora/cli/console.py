"""What a command says: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.config import Config

MINIATURE_NOTE = (
    "note: this uses the miniature models, which know nothing but their own film world: "
    "a preview of the real thing"
)


def answer(value: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Gives the command's result: one JSON object, or a text for people."""
    out = json.dumps(value, ensure_ascii=False) if as_json else text
    sys.__stdout__.write(f"{out}\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def tell(text: str) -> None:
    """Says something that is not the result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def note_miniature(config: Config) -> None:
    """The first line of a command that falls back on the miniature."""
    from iclora.shards.provenance import uses_miniature

    if uses_miniature(config):
        tell(MINIATURE_NOTE)
