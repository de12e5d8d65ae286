"""Conversion between a caption's single-line text and its structure, for any layout's markers.

Parsing never fails. Text with missing or shuffled markers yields a caption with empty parts, and
the linter reports the faults. Raising on the first fault would discard the rest of the text, and
captions that ship with their source must survive verbatim.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from schemas.caption import Caption

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
    found = prefix if prefix and line.startswith(prefix) else ""
    summary, parts = _cut(line[len(found) :], markers)
    return Caption(
        prefix=found, summary=summary, parts=parts, roles=roles_in(line), captioner=captioner
    )


def _cut(line: str, markers: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Splits a line into the text before the first marker and the text after each marker."""
    starts: list[tuple[int, int]] = []  # (panel, start of its marker)
    seek = 0
    for panel, marker in enumerate(markers):
        place = line.find(marker, seek)
        if place >= 0:
            starts.append((panel, place))
            seek = place + len(marker)
    parts = [""] * len(markers)
    ends = [place for _, place in starts] + [len(line)]
    for (panel, place), end in zip(starts, ends[1:], strict=True):
        parts[panel] = line[place + len(markers[panel]) : end].strip()
    return line[: ends[0]].strip(), tuple(parts)
