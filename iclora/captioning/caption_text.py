"""Between a caption's one line of text and its structure, for the markers of any layout.

Decided: parsing never fails. A text with missing or shuffled markers becomes a caption with empty
parts, and the linter says what is wrong with it; so a caption that came with its source survives
word for word. Rejected: raising on the first fault, which loses what the rest of the text says.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from schemas.caption import Caption

ROLE = re.compile(r"<([^<>]{1,40})>")
"""A role's name in brackets: ``<Ann>``."""


def word_set(words: str) -> frozenset[str]:
    """The words of a list written with spaces between them."""
    return frozenset(words.split())


def flatten(text: str) -> str:
    """A text as one line: NFC, without control and format characters, single spaces."""
    normal = unicodedata.normalize("NFC", text)
    spaced = "".join(
        char if char.isspace() or unicodedata.category(char)[0] != "C" else "" for char in normal
    )
    return " ".join(spaced.split())


def roles_in(text: str) -> tuple[str, ...]:
    """The names in ``<>``, in order of first appearance."""
    return tuple(dict.fromkeys(match.strip() for match in ROLE.findall(text) if match.strip()))


def parse_caption(
    text: str, markers: Sequence[str], prefix: str, *, captioner: str = ""
) -> Caption:
    """Reads a caption's text.

    Args:
        text: any text; it is flattened to one line first.
        markers: one per panel, in the layout's order.
        prefix: the task's; a caption that does not start with it has an empty one.
        captioner: who wrote it.

    Returns:
        The caption; its parts are empty where a marker is missing or stands before its
        predecessor. ``parse(x).text(markers)`` is ``flatten(x)``, but for spaces around markers
        and for markers with nothing behind them.
    """
    line = flatten(text)
    found = prefix if prefix and line.startswith(prefix) else ""
    summary, parts = _cut(line[len(found) :], markers)
    return Caption(
        prefix=found, summary=summary, parts=parts, roles=roles_in(line), captioner=captioner
    )


def _cut(line: str, markers: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """What stands before the first marker, and what stands behind each."""
    starts: list[tuple[int, int]] = []  # (panel, where its marker starts)
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
