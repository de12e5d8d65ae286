"""Conversion between a caption's single-line text and its structure, for any layout's markers.

Parsing never fails. Text with missing or shuffled markers yields a caption with empty parts, and
the linter reports the faults. Raising on the first fault would discard the rest of the text, and
captions that ship with their source must survive verbatim.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from schemas.caption import Caption
from schemas.captioning import CaptionParams
from schemas.layout import Layout

ROLE = re.compile(r"<([^<>]{1,40})>")
"""Role name in angle brackets, such as ``<Ann>``."""


def word_set(words: str) -> frozenset[str]:
    """Splits a space-separated list into a set of words."""
    return frozenset(words.split())


def flatten(text: str) -> str:
    """Normalizes text to one line: NFC, no control or format characters, single spaces."""
    normal = unicodedata.normalize("NFC", text)
    spaced = "".join(
        char if char.isspace() or unicodedata.category(char)[0] != "C" else "" for char in normal
    )
    return " ".join(spaced.split())


def roles_in(text: str) -> tuple[str, ...]:
    """Returns the names in ``<>``, in order of first appearance."""
    return tuple(dict.fromkeys(match.strip() for match in ROLE.findall(text) if match.strip()))


def parse_caption(
    text: str, markers: Sequence[str], prefix: str, *, captioner: str = ""
) -> Caption:
    """Parses a caption's text.

    Args:
        text: Arbitrary text; flattened to one line first.
        markers: Panel markers in layout order, one per panel.
        prefix: Task prefix; the caption's prefix is empty if the text does not start with it.
        captioner: Label of the captioner that wrote the text.

    Returns:
        The caption. A part is empty if its marker is missing or precedes the previous marker.
        ``parse_caption(x, ...).text(markers)`` equals ``flatten(x)``, except for spaces around
        markers and markers without text.
    """
    line = flatten(text)
    prefix = prefix if line.startswith(prefix) else ""
    body = line[len(prefix) :]
    starts: list[tuple[int, int]] = []  # (panel, start of its marker)
    seek = 0
    for panel, marker in enumerate(markers):
        start = body.find(marker, seek)
        if start >= 0:
            starts.append((panel, start))
            seek = start + len(marker)
    parts = [""] * len(markers)
    ends = [start for _, start in starts] + [len(body)]
    for (panel, start), end in zip(starts, ends[1:], strict=True):
        parts[panel] = body[start + len(markers[panel]) : end].strip()
    return Caption(
        prefix=prefix,
        summary=body[: ends[0]].strip(),
        parts=tuple(parts),
        roles=roles_in(line),
        captioner=captioner,
    )


@dataclass(frozen=True)
class CaptionText:
    """Text that a linter rule checks, with the settings to check it against."""

    text: str
    """Original text."""

    layout: Layout
    params: CaptionParams

    @cached_property
    def line(self) -> str:
        """Text on one line."""
        return flatten(self.text)

    @cached_property
    def caption(self) -> Caption:
        """Parsed text."""
        return parse_caption(self.text, self.layout.markers, self.params.prefix)

    @cached_property
    def body(self) -> str:
        """Summary and parts, without prefix and markers."""
        return " ".join([self.caption.summary, *self.caption.parts])


Finding = tuple[str, int]
"""Sentence about a fault, and the number of its panel; 0 for the whole caption."""

Rule = Callable[[CaptionText], Finding | None]
"""Linter rule, named for the fault that it finds."""
