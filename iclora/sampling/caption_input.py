"""Captions to sample: reading and format checks.

Only format errors stop a run: a caption without a marker cannot be sampled as its task's set. Other
linter findings are logged as warnings.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from iclora.errors import BadInput
from schemas.captioning import CaptionParams
from schemas.layout import Layout

log = logging.getLogger(__name__)

_SHOWN = 60
"""Maximum number of characters of a caption in an error."""


def read_captions(file: Path) -> tuple[str, ...]:
    """Reads captions from a text file, one per line; skips empty lines and ``#`` comments.

    Raises:
        BadInput: the file is missing, not UTF-8, or has no captions.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read as UTF-8 text: {error}") from error
    lines = [line.strip() for line in text.splitlines()]
    captions = tuple(line for line in lines if line and not line.startswith("#"))
    if not captions:
        raise BadInput(f"{file} holds no caption: write one a line")
    return captions


def check_captions(captions: Sequence[str], layout: Layout, params: CaptionParams) -> None:
    """Rejects captions that break their task's format, before any model is loaded.

    Raises:
        BadInput: with the linter's sentences about the first such caption.
    """
    from iclora.captioning.linter import lint_caption
    from iclora.captioning.rules_format import FORMAT_RULES

    hard = {rule.__name__ for rule in FORMAT_RULES}
    for number, caption in enumerate(captions, 1):
        faults = lint_caption(caption, layout, params)
        broken = [fault.sentence for fault in faults if fault.rule in hard]
        if broken:
            start = caption if len(caption) <= _SHOWN else f"{caption[: _SHOWN - 3]}..."
            raise BadInput(f"caption {number} ({start!r}): {' '.join(broken)}")
        for fault in faults:
            log.info("caption %d: %s", number, fault.sentence)
