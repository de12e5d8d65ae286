"""What a command says: its result on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from schemas.config import Config

MINIATURE_NOTE = (
    "note: this uses the miniature models, which know nothing but their own film world; "
    "name others with --preset or --set"
)


class _Results:
    """Where results go while what libraries print goes to stderr."""

    stream: TextIO | None = None


@contextmanager
def results_apart() -> Generator[None]:
    """Keeps stdout for the result: whatever else is printed in the block goes to stderr."""
    before, _Results.stream = sys.stdout, sys.stdout
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout, _Results.stream = before, None


def answer(value: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Gives the command's result: one JSON object, or a text for people."""
    stream = _Results.stream or sys.stdout
    stream.write((json.dumps(value, ensure_ascii=False) if as_json else text) + "\n")
    stream.flush()


def tell(text: str) -> None:
    """Says something that is not the result."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def note_miniature(config: Config, *, base: bool = False) -> None:
    """Says in the command's first line that it falls back on the miniature, if it does.

    Args:
        config: the resolved configuration.
        base: whether the command uses the base model (else it uses CLIP and the captioner).
    """
    from iclora.models.locate import MINIATURE
    from iclora.shards.provenance import uses_miniature

    if config.base.model.startswith(MINIATURE) if base else uses_miniature(config):
        tell(MINIATURE_NOTE)


def log_to_stderr() -> None:
    """Shows warnings; ``ICLORA_LOG=info`` shows what happens."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    ours = logging.getLogger("iclora")
    ours.setLevel(os.environ.get("ICLORA_LOG", "warning").upper())
    handler.setLevel(ours.level)
    ours.handlers = [handler]
